//! gdb with Palisade's commands: the script, and the tables that it reads, which come from the definitions in `wire`.

use serde_json::{Value, json};
use wire::debug::{HELD, Layout, NAME, STATES};
use wire::trace::Rings;
use wire::trace::entry::{BYTES, HEAD_STRIDE};
use wire::trace::event::{Field, FieldInfo, TABLE};

/// The commands.
pub const SCRIPT: &str = include_str!("palisade.py");
/// Names of the words at `PALISADE_TRACE`.
const RINGS: [&str; Rings::WORDS] =
    ["magic", "version", "tsc_hz", "cpus", "entries", "heads", "rings", "heads_physical", "rings_physical"];

/// What the script has to know.
#[must_use]
pub fn tables() -> Value {
    let events: Vec<Value> = TABLE
        .iter()
        .map(|info| json!({"kind": info.kind, "name": info.name, "a": field(info.a), "b": field(info.b)}))
        .collect();
    json!({
        "layout": Layout::NAMES,
        "rings": RINGS,
        "magic": {"PALISADE_LAYOUT": Layout::MAGIC, "PALISADE_TRACE": Rings::MAGIC},
        "states": STATES,
        "held": HELD,
        "name": NAME,
        "head_stride": HEAD_STRIDE,
        "entry": BYTES,
        "events": events,
    })
}

fn field(field: FieldInfo) -> Value {
    let names = match field.kind {
        Field::Name(names) => names,
        _ => &[],
    };
    let kind = format!("{:?}", field.kind);
    let kind = kind.split('(').next().unwrap_or_default();
    json!({"name": field.name, "kind": kind, "names": names})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_name_every_word_and_every_event() {
        let tables = tables();
        assert_eq!(tables["layout"].as_array().unwrap().len(), Layout::WORDS);
        assert_eq!(tables["events"].as_array().unwrap().len(), TABLE.len());
        assert_eq!(tables["events"][0]["a"]["kind"], "Thread");
        // The names are in the order of the words.
        let words = std::array::from_fn(|at| if at == 0 { Rings::MAGIC } else { 1 << at });
        let rings = Rings::from_words(words).unwrap();
        assert_eq!((rings.tsc_hz, rings.rings_physical), (1 << 2, 1 << 8));
        assert_eq!((RINGS[2], RINGS[8]), ("tsc_hz", "rings_physical"));
    }
}
