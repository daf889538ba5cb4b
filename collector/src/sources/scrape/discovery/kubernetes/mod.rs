//! Objects of Kubernetes (`kubernetes_sd_configs`): for each kind that a role reads a list, and then a watch from
//! the version of that list on. What changed is gathered for [`GATHER`], then the groups are made anew; equal ones
//! stay the same. A watch that is too old (410) is listed again; one that breaks goes on from where it was.
//!
//! Only the fields that become labels are read. Refuses lines of a watch above [`watch::MAX_LINE`].

mod build;
mod connect;
mod objects;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use self::connect::Api;
use self::objects::{Kind, Object};
use self::watch::{Event, Watcher};
use super::provider::Updates;
use crate::config::KubernetesSd;

const GATHER: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(10);
/// Events that wait; a watch that finds no room waits.
const EVENTS: usize = 1024;

/// All objects of the kinds that are read, by namespace and name.
#[derive(Default)]
pub(super) struct Store {
    kinds: BTreeMap<Kind, BTreeMap<String, (usize, Object)>>,
}

impl Store {
    fn all(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.kinds.get(&kind).into_iter().flat_map(|objects| objects.values().map(|(_, object)| object))
    }

    fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Object> {
        self.kinds.get(&kind)?.get(&key(namespace, name)).map(|(_, object)| object)
    }

    /// `watcher` tells what one watch brought from what another of the same kind did.
    fn apply(&mut self, watcher: usize, kind: Kind, event: Event) {
        let objects = self.kinds.entry(kind).or_default();
        match event {
            Event::Listed(list) => {
                objects.retain(|_, (owner, _)| *owner != watcher);
                objects.extend(list.into_iter().map(|object| (object.key(), (watcher, object))));
            }
            Event::Set(object) => {
                objects.insert(object.key(), (watcher, *object));
            }
            Event::Gone(object) => {
                objects.remove(&object.key());
            }
            Event::Failed(_) => {}
        }
    }
}

fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// Kinds that the role reads, with what is attached.
fn kinds(config: &KubernetesSd) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = config.role.reads().iter().map(|role| Kind::of(*role)).collect();
    if config.attach_node && !kinds.contains(&Kind::Node) {
        kinds.push(Kind::Node);
    }
    if config.attach_namespace {
        kinds.push(Kind::Namespace);
    }
    kinds
}

pub(super) async fn run(config: KubernetesSd, out: Updates) {
    let api = loop {
        match Api::connect(&config) {
            Ok(api) => break Arc::new(api),
            Err(why) => out.failed("connection", &why),
        }
        tokio::time::sleep(RETRY).await;
    };
    let mut namespaces: Vec<Option<String>> = config.namespaces.iter().cloned().map(Some).collect();
    if config.own_namespace {
        namespaces.push(api.namespace.clone());
    }
    namespaces.sort();
    namespaces.dedup();
    if namespaces.is_empty() {
        namespaces.push(None);
    }
    let (sender, mut events) = mpsc::channel(EVENTS);
    // Ends the watches when this task ends.
    let mut tasks = tokio::task::JoinSet::new();
    let mut unlisted = Vec::new();
    for kind in kinds(&config) {
        let everywhere = [None];
        let places: &[Option<String>] = if kind.is_namespaced() { &namespaces } else { &everywhere };
        for namespace in places {
            let number = unlisted.len();
            unlisted.push(true);
            let watcher =
                Watcher::new(number, kind, namespace.as_deref(), &config, api.clone(), sender.clone());
            tasks.spawn(watcher.run());
        }
    }
    let mut store = Store::default();
    while let Some(first) = events.recv().await {
        let settled = tokio::time::Instant::now() + GATHER;
        let mut changed = false;
        let mut next = Some(first);
        while let Some((number, kind, event)) = next {
            match &event {
                Event::Failed(why) => out.failed(kind.name(), why),
                Event::Listed(_) => unlisted[number] = false,
                _ => {}
            }
            changed |= !matches!(event, Event::Failed(_));
            store.apply(number, kind, event);
            next = tokio::time::timeout_at(settled, events.recv()).await.unwrap_or(None);
        }
        // Half a picture would end targets that are still there.
        if changed && !unlisted.contains(&true) {
            out.replace_all(build::groups(&config, &store));
        }
    }
}

#[cfg(test)]
#[path = "../kubernetes_tests.rs"]
mod tests;
