//! Requests are found where the protocol puts them, once each, and only there.

use super::*;
use proptest::prelude::*;

const IMAGE_ADDRESS: u64 = crate::KERNEL_FLOOR;

/// An image of these words.
fn image(parts: &[&[u64]]) -> Vec<u8> {
    parts.concat().iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn request(feature: Feature, more: &[u64]) -> Vec<u64> {
    [&COMMON[..], &feature.id(), more].concat()
}

fn tag(revision: u64) -> [u64; 3] {
    [TAG[0], TAG[1], revision]
}

fn find(image: &[u8]) -> Result<Requests, Error> {
    Requests::find(image, core::iter::once(0..image.len()))
}

#[test]
fn every_feature_is_found_and_answered_in_its_place() {
    let all: Vec<u64> = Feature::ALL.iter().flat_map(|feature| request(*feature, &[0, 0, 0, 0])).collect();
    let mut image = image(&[&[1, 2], &all]);
    let requests = find(&image).unwrap();
    for (index, feature) in Feature::ALL.iter().enumerate() {
        assert!(requests.asks_for(*feature));
        requests.answer(&mut image, *feature, 1000 + index as u64);
    }
    for index in 0..Feature::ALL.len() {
        assert_eq!(u64_at(&image, 16 + 64 * index + 40), Some(1000 + index as u64));
    }
}

#[test]
fn a_supported_base_revision_is_confirmed_and_a_higher_one_is_not() {
    let confirm = |asked: u64| {
        let mut image = image(&[&tag(asked)]);
        let requests = find(&image).unwrap();
        requests.answer_tag(&mut image);
        (requests.revision(), u64_at(&image, 8).unwrap(), u64_at(&image, 16).unwrap())
    };
    assert_eq!([0, 1, 2, 3].map(confirm), [0, 1, 2, 3].map(|revision| (revision, revision, 0)));
    assert_eq!(confirm(4), (3, 3, 4));
    assert_eq!(find(&[0; 64]).unwrap().revision(), 0, "no tag asks for revision 0");
}

#[test]
fn markers_bound_the_search() {
    let hhdm = request(Feature::Hhdm, &[0, 0]);
    let mp = request(Feature::Mp, &[0, 0, 1]);
    let rsdp = request(Feature::Rsdp, &[0, 0]);
    let requests = find(&image(&[&tag(1), &hhdm, &START, &tag(2), &mp, &END, &rsdp])).unwrap();
    assert_eq!(requests.revision(), 2);
    assert_eq!([Feature::Hhdm, Feature::Mp, Feature::Rsdp].map(|f| requests.asks_for(f)), [false, true, false]);
}

#[test]
fn only_what_the_file_fills_is_searched_and_only_on_boundaries() {
    let image = image(&[&request(Feature::Hhdm, &[0, 0]), &request(Feature::Rsdp, &[0, 0])]);
    let requests = Requests::find(&image, [0..4, 48..96].into_iter()).unwrap();
    assert!(requests.asks_for(Feature::Hhdm) && requests.asks_for(Feature::Rsdp));
    let requests = Requests::find(&image, core::iter::once(1..48)).unwrap();
    assert!(!requests.asks_for(Feature::Hhdm));
    let shifted = [&[0; 4][..], &image].concat();
    assert!(!find(&shifted).unwrap().asks_for(Feature::Hhdm));
}

#[test]
fn duplicates_are_refused_even_of_unknown_requests() {
    let unknown = [COMMON[0], COMMON[1], 1, 2, 0, 0];
    assert_eq!(find(&image(&[&unknown, &unknown])).unwrap_err(), Error::Duplicate([1, 2]));
    assert_eq!(find(&image(&[&tag(2), &tag(2)])).unwrap_err(), Error::TwoTags);
    let many: Vec<u64> = (0..=MOST as u64).flat_map(|id| [COMMON[0], COMMON[1], id, id, 0, 0]).collect();
    assert_eq!(find(&image(&[&many])).unwrap_err(), Error::TooMany);
}

#[test]
fn wishes_are_read_from_behind_the_answer() {
    let stack = request(Feature::StackSize, &[0, 0, 1 << 20]);
    let entry = request(Feature::EntryPoint, &[0, 0, IMAGE_ADDRESS + 8]);
    let mp = request(Feature::Mp, &[0, 0, 1]);
    let bytes = image(&[&stack, &entry, &mp]);
    let requests = find(&bytes).unwrap();
    assert_eq!(requests.stack_size(&bytes), 1 << 20);
    assert_eq!(requests.entry(&bytes), Some(IMAGE_ADDRESS + 8));
    assert_eq!(requests.processors(&bytes), Some(true));
    let none = find(&[]).unwrap();
    assert_eq!((none.stack_size(&[]), none.entry(&[]), none.processors(&[])), (64 << 10, None, None));
}

#[test]
fn demands_that_cannot_be_met_are_refused() {
    let check = |words: &[u64]| {
        let bytes = image(&[words]);
        find(&bytes).unwrap().check_demands(&bytes, IMAGE_ADDRESS)
    };
    let paging = |revision, most, least| check(&request(Feature::PagingMode, &[revision, 0, 1, most, least]));
    assert_eq!(paging(1, 1, 0), Ok(()));
    assert_eq!(paging(1, 1, 1), Err(Error::PagingMode(1, 1)));
    assert_eq!(paging(0, 7, 7), Ok(()), "revision 0 has no such fields");
    // A list of one module at word 8, which is at word 9, whose flags are word 11.
    let module = |revision, count, flags| {
        let head = request(Feature::Module, &[revision, 0, count, IMAGE_ADDRESS + 64]);
        check(&[&head[..], &[IMAGE_ADDRESS + 72, 0, 0, flags]].concat())
    };
    assert_eq!(module(1, 1, 1), Err(Error::ModuleRequired));
    assert_eq!([module(0, 1, 1), module(1, 0, 1), module(1, 1, 2), module(1, u64::MAX, 2)], [Ok(()); 4]);
}

proptest! {
    #[test]
    fn no_image_makes_the_search_fail_but_by_its_rules(
        words in prop::collection::vec(prop_oneof![
            Just(COMMON[0]), Just(COMMON[1]), Just(TAG[0]), Just(TAG[1]), Just(END[0]), Just(END[1]),
            Just(Feature::Module.id()[0]), Just(Feature::Module.id()[1]), 0..3_u64,
        ], 0..60),
    ) {
        let mut bytes = image(&[&words]);
        if let Ok(requests) = find(&bytes) {
            let _ = requests.check_demands(&bytes, IMAGE_ADDRESS);
            prop_assert!(requests.revision() <= HIGHEST_REVISION);
            requests.answer_tag(&mut bytes);
            Feature::ALL.iter().for_each(|feature| requests.answer(&mut bytes, *feature, 1));
        }
    }
}
