//! Which events are wanted.

use super::{At, Names, Trace, rules};
use crate::error::{Error, Result};
use wire::trace::event::{Categories, Info, SlotName};

/// Which events to show; what is not said does not narrow.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Filter {
    /// Of these CPUs only.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub cpu: Vec<u16>,
    /// Of these threads only, by number or by name.
    #[arg(long, value_name = "THREAD", value_delimiter = ',')]
    pub thread: Vec<String>,
    /// Of this shootdown request only: the initiating CPU and the generation.
    #[arg(long, value_name = "CPU:GENERATION")]
    pub request: Option<String>,
    /// Of this slot of addresses only, as events show it: 32K/5.
    #[arg(long, value_name = "SLOT")]
    pub slot: Option<String>,
    /// These kinds only, by name or by category.
    #[arg(long, value_name = "EVENT", value_delimiter = ',')]
    pub event: Vec<String>,
    /// From this second on, counted from the first event.
    #[arg(long, value_name = "S")]
    pub from: Option<f64>,
    /// Up to this second.
    #[arg(long, value_name = "S")]
    pub to: Option<f64>,
    /// The last so many of them only.
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,
}

/// A filter that is ready to be asked.
#[derive(Clone, Debug)]
pub struct Wanted<'f> {
    filter: &'f Filter,
    request: Option<(u16, u32)>,
    kinds: Vec<u8>,
    categories: Categories,
    window: (u64, u64),
    names: Names,
}

impl Filter {
    /// Checks the words.
    ///
    /// # Errors
    /// The word that means nothing.
    pub fn compile(&self, trace: &Trace) -> Result<Wanted<'_>> {
        let bad = |what: String| Err(Error::CannotRun(what));
        let (mut kinds, mut categories) = (Vec::new(), Categories::empty());
        for name in &self.event {
            let (kind, category) = (Info::by_name(name), Categories::by_name(name));
            if kind.is_none() && category.is_none() {
                let known: Vec<_> =
                    wire::trace::event::TABLE.iter().map(|info| info.name).chain(Categories::NAMES).collect();
                return bad(format!("no event or category is called '{name}'; there are {}", known.join(" ")));
            }
            // Some names are both.
            kinds.extend(kind.map(|info| info.kind));
            categories |= category.unwrap_or(Categories::empty());
        }
        let request = match &self.request {
            None => None,
            Some(text) => match text
                .split_once(':')
                .and_then(|(cpu, generation)| Some((cpu.parse().ok()?, generation.parse().ok()?)))
            {
                Some(request) => Some(request),
                None => return bad(format!("'{text}' is no request: CPU:GENERATION, such as 2:17")),
            },
        };
        for seconds in [self.from, self.to].into_iter().flatten() {
            if !seconds.is_finite() || seconds < 0.0 {
                return bad(format!("{seconds} is no time in seconds"));
            }
        }
        let cycles = |seconds: f64| trace.start().saturating_add((seconds * trace.tsc_hz as f64) as u64);
        let window = (self.from.map_or(0, cycles), self.to.map_or(u64::MAX, cycles));
        Ok(Wanted { filter: self, request, kinds, categories, window, names: trace.names() })
    }
}

impl Wanted<'_> {
    /// Whether the event is wanted.
    #[must_use]
    pub fn holds(&self, at: &At) -> bool {
        let Filter { cpu, thread, event, .. } = self.filter;
        let info = at.entry.event.info();
        (cpu.is_empty() || cpu.contains(&at.cpu))
            && (thread.is_empty() || thread.iter().any(|wanted| self.is_thread(at.entry.thread, wanted)))
            && (event.is_empty() || self.kinds.contains(&info.kind) || self.categories.contains(info.category))
            && self.filter.slot.as_ref().is_none_or(|wanted| {
                rules::slot(at.entry.event).is_some_and(|slot| SlotName(slot).to_string() == *wanted)
            })
            && self.request.is_none_or(|request| at.request() == Some(request))
            && (self.window.0..=self.window.1).contains(&at.entry.time)
    }

    fn is_thread(&self, thread: u32, wanted: &str) -> bool {
        wanted.trim_start_matches('#').parse() == Ok(thread)
            || self.names.name(thread) == Some(wanted)
            || self.names.of(thread) == wanted
    }

    /// The wanted events of a trace, in the order of time.
    #[must_use]
    pub fn of<'t>(&self, trace: &'t Trace) -> Box<dyn Iterator<Item = At> + 't>
    where
        Self: 't,
    {
        let wanted = self.clone();
        let all = trace.merged().filter(move |at| wanted.holds(at));
        match self.filter.last {
            None => Box::new(all),
            Some(last) => {
                let mut kept = std::collections::VecDeque::with_capacity(last + 1);
                for at in all {
                    kept.push_back(at);
                    if kept.len() > last {
                        kept.pop_front();
                    }
                }
                Box::new(kept.into_iter())
            }
        }
    }
}
