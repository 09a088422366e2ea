//! `railbus groups`: who consumes from a store, how far behind they are, and forgetting them.

use super::{OK, store};
use crate::{args::Groups, output};
use railbus::{
    backend::GroupInfo,
    bus::Bus,
    error::{Error, ErrorKind, Result},
    options::Options,
};
use serde_json::json;

const HEAD: [&str; 6] = ["name", "interest", "lag", "leased", "dead letters", "last seen"];

/// The longest interest shown in a table.
const INTEREST_MAX: usize = 60;

pub(super) async fn groups(args: &Groups, json: bool) -> Result<u8> {
    let (Groups::Ls { url } | Groups::Prune { url, .. }) = args;
    let options = store::options(url)?;
    let bus = store::existing(&options, "groups").await?;
    let done = match args {
        Groups::Ls { .. } => list(&bus, &options, json).await,
        Groups::Prune { group, dry_run, .. } => prune(&bus, group, *dry_run, json).await,
    };
    let closed = bus.close().await;
    done.and(closed).map(|()| OK)
}

async fn list(bus: &Bus, options: &Options, json: bool) -> Result<()> {
    let groups = bus.keeper()?.groups().await?;
    if json {
        return output::lines(groups.iter().map(document));
    }
    if groups.is_empty() {
        output::note(&format!("{options} has no groups"));
        return Ok(());
    }
    output::line(&output::table(&HEAD, groups.iter().map(row).collect())).map(|_| ())
}

fn row(group: &GroupInfo) -> Vec<String> {
    vec![
        output::plain(&group.name),
        output::one_line(&group.interest.to_string(), INTEREST_MAX),
        group.lag.to_string(),
        group.leased.to_string(),
        group.dead_letters.to_string(),
        output::time(group.last_seen),
    ]
}

fn document(group: &GroupInfo) -> String {
    json!({
        "name": group.name, "interest": group.interest, "lag": group.lag, "leased": group.leased,
        "dead_letters": group.dead_letters, "last_seen": group.last_seen.to_string(),
    })
    .to_string()
}

async fn prune(bus: &Bus, name: &str, dry_run: bool, json: bool) -> Result<()> {
    let keeper = bus.keeper()?;
    let groups = keeper.groups().await?;
    let Some(group) = groups.iter().find(|group| group.name == name) else {
        return Err(no_group(name, &groups));
    };
    if !dry_run {
        keeper.prune(name).await?;
    }
    if json {
        let done = json!({
            "group": name, "pruned": !dry_run, "dry_run": dry_run, "unsettled": group.lag,
            "leased": group.leased, "dead_letters": group.dead_letters,
        });
        return output::line(&done.to_string()).map(|_| ());
    }
    let verb = if dry_run { "would be forgotten" } else { "is forgotten" };
    output::note(&format!(
        "group {} {verb}, with {} and {}",
        output::plain(name),
        output::count(group.lag, "unsettled event"),
        output::count(group.dead_letters, "dead letter"),
    ));
    output::note(
        "a group of that name that comes again begins anew: it gets every event that is still kept and \
         that it wants, those it has handled too, unless it asks for new ones only",
    );
    if group.leased > 0 {
        let leased = output::count(group.leased, "event");
        output::note(&format!("a member is at work on {leased}: is it still in use?"));
    }
    Ok(())
}

fn no_group(name: &str, groups: &[GroupInfo]) -> Error {
    let known = groups.iter().map(|group| group.name.as_str()).collect::<Vec<_>>().join(", ");
    let hint = match known.as_str() {
        "" => "the store has no groups".into(),
        known => format!("known groups: {known}"),
    };
    let error = Error::new(ErrorKind::NotFound, "groups", "there is no such group");
    error.with("group", output::plain(name)).hint(hint)
}
