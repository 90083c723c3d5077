//! The date, from the registers of a PC's real-time clock (Motorola MC146818A): BCD or binary, 12 hours or 24.

/// One reading of the clock's registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// 0 to 59.
    pub second: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 23, or 1 to 12 with the highest bit set in the afternoon.
    pub hour: u8,
    /// 1 to 31.
    pub day: u8,
    /// 1 to 12.
    pub month: u8,
    /// 0 to 99.
    pub year: u8,
    /// The higher digits of the year; not every clock has them.
    pub century: u8,
    /// Register B: the format of the others.
    pub format: u8,
}

/// Bits of register B: hours are 0 to 23; numbers are binary.
const FORMAT_24_HOURS: u8 = 1 << 1;
const FORMAT_BINARY: u8 = 1 << 2;
/// The bit of the hour that says afternoon.
const AFTERNOON: u8 = 1 << 7;

/// Seconds since the start of 1970 (UTC), taking the clock for UTC; `None` if there is no such date.
#[must_use]
pub fn unix_time(clock: &Registers) -> Option<i64> {
    let number = |raw: u8| match clock.format & FORMAT_BINARY {
        0 if raw & 0xf > 9 || raw >> 4 > 9 => None,
        0 => Some(i64::from((raw >> 4) * 10 + (raw & 0xf))),
        _ => Some(i64::from(raw)),
    };
    let hour = match clock.format & FORMAT_24_HOURS {
        0 => {
            let hour = number(clock.hour & !AFTERNOON).filter(|hour| (1..=12).contains(hour))?;
            hour % 12 + if clock.hour & AFTERNOON == 0 { 0 } else { 12 }
        }
        _ => number(clock.hour).filter(|hour| *hour < 24)?,
    };
    // A clock without the register holds something else there.
    let century = number(clock.century).filter(|century| (19..=22).contains(century)).unwrap_or(20);
    let year = century * 100 + number(clock.year).filter(|year| *year < 100)?;
    let month = number(clock.month).filter(|month| (1..=12).contains(month))?;
    let day = number(clock.day).filter(|day| (1..=days_in_month(year, month)).contains(day))?;
    let minute = number(clock.minute).filter(|minute| *minute < 60)?;
    let second = number(clock.second).filter(|second| *second < 60)?;
    Some(((days_before(year, month) + day - 1) * 24 + hour) * 3600 + minute * 60 + second)
}

/// Days from the start of 1970 to the start of a month from 1900 on.
fn days_before(year: i64, month: i64) -> i64 {
    // Leap days of all earlier years, by the Gregorian rule, from year 1 on.
    let leap_days = |year: i64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let years = (year - 1970) * 365 + leap_days(year) - leap_days(1970);
    years + (1..month).map(|month| days_in_month(year, month)).sum::<i64>()
}

const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: u8 = FORMAT_24_HOURS | FORMAT_BINARY;

    fn plain(year: u16, month: u8, day: u8, hour: u8, minute: u8, second: u8) -> Registers {
        let (century, year) = ((year / 100) as u8, (year % 100) as u8);
        Registers { second, minute, hour, day, month, year, century, format: PLAIN }
    }

    #[test]
    fn known_dates_have_their_known_times() {
        assert_eq!(unix_time(&plain(1970, 1, 1, 0, 0, 0)), Some(0));
        assert_eq!(unix_time(&plain(2000, 2, 29, 12, 0, 0)), Some(951_825_600));
        assert_eq!(unix_time(&plain(2001, 9, 9, 1, 46, 40)), Some(1_000_000_000));
        assert_eq!(unix_time(&plain(2038, 1, 19, 3, 14, 7)), Some(2_147_483_647));
        assert_eq!(unix_time(&plain(2100, 3, 1, 0, 0, 0)), Some(4_107_542_400));
    }

    #[test]
    fn twelve_hours_and_bcd_are_understood() {
        let bcd = Registers {
            second: 0x40,
            minute: 0x46,
            hour: 0x01,
            day: 0x09,
            month: 0x09,
            year: 1,
            century: 0x20,
            format: 0,
        };
        assert_eq!(unix_time(&bcd), Some(1_000_000_000));
        assert_eq!(unix_time(&Registers { hour: 0x81, ..bcd }), Some(1_000_000_000 + 12 * 3600));
        let midnight = Registers { hour: 0x12, ..bcd };
        assert_eq!(unix_time(&midnight), Some(1_000_000_000 - 3600));
        assert_eq!(unix_time(&Registers { hour: 0x92, ..bcd }), Some(1_000_000_000 + 11 * 3600));
        assert_eq!(
            unix_time(&Registers { hour: 0x23, format: FORMAT_24_HOURS, ..bcd }),
            Some(1_000_000_000 + 22 * 3600)
        );
        assert_eq!(unix_time(&Registers { century: 0, ..bcd }), Some(1_000_000_000), "no century register");
    }

    #[test]
    fn what_is_no_date_is_none() {
        let absent = 0xff;
        let all = Registers {
            second: absent,
            minute: absent,
            hour: absent,
            day: absent,
            month: absent,
            year: absent,
            century: absent,
            format: absent,
        };
        assert_eq!(unix_time(&all), None);
        assert_eq!(unix_time(&Registers::default()), None);
        assert_eq!(unix_time(&plain(2023, 2, 29, 0, 0, 0)), None);
        assert_eq!(unix_time(&plain(2023, 1, 1, 24, 0, 0)), None);
        assert_eq!(unix_time(&Registers { minute: 0x5a, format: FORMAT_24_HOURS, ..plain(2023, 1, 1, 0, 0, 0) }), None);
    }

    proptest! {
        #[test]
        fn the_next_day_is_a_day_later(year in 1970_u16..2200, month in 1_u8..=12, day in 1_u8..=31, hour in 0_u8..24) {
            let at = |day, month, year| unix_time(&plain(year, month, day, hour, 0, 0));
            if let Some(now) = at(day, month, year) {
                let (next_month, next_year) = if month == 12 { (1, year + 1) } else { (month + 1, year) };
                let next = at(day + 1, month, year).or_else(|| at(1, next_month, next_year));
                prop_assert_eq!(next, Some(now + 86_400));
            }
        }

        #[test]
        fn no_registers_panic(raw in any::<[u8; 8]>()) {
            let [second, minute, hour, day, month, year, century, format] = raw;
            let _ = unix_time(&Registers { second, minute, hour, day, month, year, century, format });
        }
    }
}
