use std::fs;
use std::path::Path;

use super::*;
use crate::store::run_directory::Existing;

fn finished(home: &Path, name: &str, text: &str) -> StageDirectory {
    let directory = StageDirectory::new(home.join(name));
    create_directory(directory.path()).unwrap();
    for file in [directory.checkpoint(), directory.summary(), directory.events()] {
        fs::write(file, text).unwrap();
    }
    directory
}

fn text(directory: &StageDirectory) -> String {
    fs::read_to_string(directory.checkpoint()).unwrap()
}

#[test]
fn a_result_stays_until_its_replacement_is_finished() {
    let home = tempfile::tempdir().unwrap();
    let place = finished(home.path(), "pretrain", "old");
    let refused = Work::begin(place.clone(), Existing::Refuse);
    assert!(matches!(refused, Err(Error::OutputExists { .. })));

    let work = Work::begin(place.clone(), Existing::Overwrite).unwrap();
    assert!(!work.directory().holds_results());
    fs::write(work.directory().checkpoint(), "half").unwrap();
    drop(work);
    assert_eq!(text(&place), "old");
    assert_eq!(text(&place.to_resume()), "half");

    let work = Work::begin(place.clone(), Existing::Resume).unwrap();
    assert_eq!(text(work.directory()), "half");
    fs::write(work.directory().checkpoint(), "new").unwrap();
    fs::write(work.directory().summary(), "new").unwrap();
    work.finish().unwrap();
    assert_eq!(text(&place), "new");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn a_replacement_that_came_to_nothing_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let place = finished(home.path(), "features", "old");
    let work = Work::begin(place.clone(), Existing::Overwrite).unwrap();
    fs::write(work.directory().config(), "{}").unwrap();
    drop(work);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    assert_eq!(place.to_resume(), place);
}

#[test]
fn resuming_a_finished_stage_works_on_a_copy() {
    let home = tempfile::tempdir().unwrap();
    let place = finished(home.path(), "pretrain", "old");
    let work = Work::begin(place.clone(), Existing::Resume).unwrap();
    assert_eq!(text(work.directory()), "old");
    use std::io::Write;
    let mut events = fs::File::options().append(true).open(work.directory().events()).unwrap();
    events.write_all(b" and more").unwrap();
    assert_eq!(fs::read_to_string(place.events()).unwrap(), "old");
}

#[test]
fn a_replacement_that_was_announced_begins_anew_and_outlives_a_stop() {
    let home = tempfile::tempdir().unwrap();
    let place = finished(home.path(), "finetune", "old");
    let write = |path: &Path| fs::write(path, "{}").map_err(Error::io("write", path));
    place.announce_replacement(write).unwrap();
    place.recover().unwrap();
    let work = Work::begin(place.clone(), Existing::Resume).unwrap();
    assert!(!work.directory().holds_results());
    drop(work);
    assert!(place.to_resume() != place && text(&place) == "old");
    let work = Work::begin(place.clone(), Existing::Overwrite).unwrap();
    write(&work.directory().config()).unwrap();
    drop(work);
    assert!(place.to_resume() != place && text(&place) == "old");
    Work::begin(place.clone(), Existing::Resume).unwrap().finish().unwrap();
    assert!(place.to_resume() == place && !place.holds_results());
    place.announce_replacement(write).unwrap();
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "nothing to be replaced");
}

#[test]
fn files_made_aside_appear_all_at_once() {
    let home = tempfile::tempdir().unwrap();
    let place = StageDirectory::new(home.path().join("pretrain"));
    let begin = |text: &str| {
        let work = Work::begin_aside(place.clone()).unwrap();
        fs::write(work.directory().checkpoint(), text).unwrap();
        assert!(!place.to_resume().holds_results() || place.is_finished());
        fs::write(work.directory().summary(), text).unwrap();
        work
    };
    drop(begin("dropped"));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    std::mem::forget(begin("killed"));
    place.recover().unwrap();
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    begin("whole").finish().unwrap();
    let other = begin("other");
    assert_eq!((text(&place).as_str(), other.replaces()), ("whole", true));
    other.finish().unwrap();
    assert_eq!((text(&place).as_str(), fs::read_dir(home.path()).unwrap().count()), ("other", 1));
}

#[test]
fn what_a_kill_left_inside_an_evaluation_is_recovered_with_it() {
    let home = tempfile::tempdir().unwrap();
    let evaluation = StageDirectory::new(home.path().join("evaluate"));
    let inner = home.path().join("evaluate/verdict/scratch");
    let place = finished(&inner, "finetune", "new");
    finished(&inner, "finetune.rotnet-old", "old");
    fs::create_dir(inner.join("finetune.rotnet-part")).unwrap();
    evaluation.remove_leftovers();
    assert_eq!((text(&place).as_str(), fs::read_dir(inner).unwrap().count()), ("new", 1));
}

#[test]
fn a_kill_between_the_two_renames_is_mended_at_the_next_start() {
    for new_is_finished in [true, false] {
        let home = tempfile::tempdir().unwrap();
        let place = StageDirectory::new(home.path().join("pretrain"));
        finished(home.path(), "pretrain.rotnet-old", "old");
        let new = finished(home.path(), "pretrain.rotnet-new", "new");
        if !new_is_finished {
            fs::remove_file(new.summary()).unwrap();
        }
        place.recover().unwrap();
        assert_eq!(text(&place), if new_is_finished { "new" } else { "old" });
        assert!(!home.path().join("pretrain.rotnet-old").exists());
    }
    let home = tempfile::tempdir().unwrap();
    let place = finished(home.path(), "pretrain", "new");
    finished(home.path(), "pretrain.rotnet-old", "old");
    place.recover().unwrap();
    assert_eq!(text(&place), "new");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}
