//! Wiring: which thread runs what, what a signal does, and in which order everything ends. Only this module
//! sees all the others.

mod endpoints;
mod health;
mod privileges;
mod scraping;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use self::endpoints::Endpoints;
use self::privileges::Loader;
use self::scraping::Scraping;
use crate::aggregate::Aggregator;
use crate::cli::Options;
use crate::config::{self, Config};
use crate::limits::RING_BATCHES;
use crate::model::SeriesTable;
use crate::reader::{self, Clock, PushSchedule, Reader};
use crate::ring;
use crate::self_metrics::{Counters, SelfReader};
use crate::serve::{self, Listen, Parts, Reload, Server};
use crate::sinks::remote_write::Command;
use crate::sources::ebpf::{EbpfOptions, EbpfReader};
use crate::sources::host::HostReader;

pub use health::ask;

/// After this long the probes are loaded and the first pages have been asked for.
const START_IS_OVER: Duration = Duration::from_secs(10);
/// What is left unsent after this long stays in the batch log.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(2);

/// A fault that keeps the program from starting, and its exit status.
#[derive(Debug)]
pub struct StartError {
    pub message: String,
    pub status: u8,
}

impl StartError {
    fn new(message: impl std::fmt::Display) -> Self {
        StartError { message: message.to_string(), status: 1 }
    }
}

/// Runs until a signal ends it.
pub fn run(options: &Options) -> ExitCode {
    crate::logging::install(options.log_format, options.log_level);
    options.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    crate::sys::memory::keep_small();
    let loader = Loader::start();
    if options.drop_privileges {
        privileges::give_up(options);
    }
    crate::sys::clock::follow_steps();
    let run = |loader| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(async { Daemon::start(options).await?.serve(loader).await }))
    };
    match loader.and_then(run).unwrap_or_else(|error: std::io::Error| Err(StartError::new(error))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!(err = error.message.as_str(); "collector could not start");
            ExitCode::from(error.status)
        }
    }
}

/// Checks a configuration file as a start would.
///
/// # Errors
/// Where it is wrong and how to mend it.
pub fn check(file: &Path) -> Result<Config, String> {
    let config = config::read_config(file).map_err(|error| error.to_string())?;
    let chosen = chosen_probes(&EbpfOptions::default(), &config);
    chosen.map_err(|fault| format!("{}: {fault}", file.display()))?;
    Ok(config)
}

/// The kernel probes that the flags and the configuration ask for.
///
/// # Errors
/// Where the configuration names one that there is not.
pub fn chosen_probes(flags: &EbpfOptions, config: &Config) -> Result<EbpfOptions, String> {
    let mut options = flags.clone();
    options.choose(&config.host.ebpf).map_err(|fault| format!("host.ebpf: {fault}"))?;
    Ok(options)
}

struct Daemon<'a> {
    options: &'a Options,
    config: Config,
    counters: Arc<Counters>,
    ring: ring::Sender,
    reader: Reader,
    clock: Clock,
    aggregator: std::thread::JoinHandle<()>,
    endpoints: Endpoints,
    scraping: Scraping,
    server: Arc<Server>,
    table: Arc<SeriesTable>,
    reloads: mpsc::Receiver<Reload>,
}

impl<'a> Daemon<'a> {
    async fn start(options: &'a Options) -> Result<Self, StartError> {
        let config = read_config(options)?;
        log::info!(version = env!("CARGO_PKG_VERSION"); "Starting collector");
        let counters = Arc::new(Counters::default());
        counters.reload_succeeded();
        let table = Arc::new(SeriesTable::default());
        let (ring, receiver) = ring::ring(RING_BATCHES);
        let enabled = |name: &'static str, default| options.is_enabled(name, default);
        let labels = &config.host.labels;
        // Exit status 2 is what a collector that can't be made has always ended with.
        let host = HostReader::new(&options.paths, &options.flags, enabled, labels, &table)
            .map_err(|error| StartError { message: error.to_string(), status: 2 })?;
        let names: Vec<_> = host.names().collect();
        log::info!(collectors = names.join(",").as_str(); "Enabled collectors");
        let own = options.exporter_metrics.then(|| {
            SelfReader::new(counters.clone(), ring.clone(), table.clone(), labels, host.network_octets())
        });
        let parts = reader::Parts {
            host,
            own,
            ring: ring.clone(),
            counters: counters.clone(),
            table: table.clone(),
            labels: labels.clone(),
            deadline: options.deadline,
        };
        let (reader, clock) = reader::start(parts).map_err(StartError::new)?;
        let endpoints = Endpoints::new(options, &counters, &table);
        let aggregator = Aggregator::new(receiver, endpoints.tail(), endpoints.journal(), counters.clone());
        let aggregator = std::thread::Builder::new()
            .name("aggregator".into())
            .spawn(move || aggregator.run())
            .map_err(StartError::new)?;
        let scraping = Scraping::new(options, &ring, &table, &counters);
        let (reload, reloads) = mpsc::channel(1);
        let server = Server::new(Parts {
            telemetry_path: options.telemetry_path.clone(),
            max_requests: options.max_requests,
            deadline: options.deadline,
            open_metrics: options.open_metrics,
            collectors: names,
            reader: reader.clone(),
            ring: ring.clone(),
            counters: counters.clone(),
            engine: scraping.engine(),
            target_api_allowed: options.target_api,
            reload,
            web_config: options.web_config.clone(),
        })
        .map_err(StartError::new)?;
        Ok(Daemon {
            options,
            config,
            counters,
            ring,
            reader,
            clock,
            aggregator,
            endpoints,
            scraping,
            server,
            table,
            reloads,
        })
    }

    async fn serve(mut self, loader: Loader) -> Result<(), StartError> {
        let listen = if self.options.systemd_socket {
            Listen::Systemd
        } else {
            let addresses = self.options.listen.iter().map(|text| serve::parse_address(text));
            Listen::Addresses(addresses.collect::<Result<_, _>>().map_err(StartError::new)?)
        };
        serve::serve(&listen, &self.server).await.map_err(StartError::new)?;
        if let Some(metrics) = &self.config.scraper_metrics {
            let (engine, counters) = (self.scraping.engine(), self.counters.clone());
            serve::serve_scraper_metrics(metrics, engine, counters).await.map_err(StartError::new)?;
        }
        let config = self.config.clone();
        self.apply(&config).await.map_err(StartError::new)?;
        self.schedule();
        self.load_probes(loader)?;
        self.server.set_ready();
        tokio::spawn(forget_start());
        let listen = |kind: SignalKind| signal(kind).map_err(StartError::new);
        let (mut terminate, mut interrupt, mut hangup) = (
            listen(SignalKind::terminate())?,
            listen(SignalKind::interrupt())?,
            listen(SignalKind::hangup())?,
        );
        let mut retry_log = tokio::time::interval(endpoints::RETRY_LOG);
        loop {
            let lacks_log = self.endpoints.lacks_log();
            tokio::select! {
                _ = Signal::recv(&mut terminate) => break,
                _ = Signal::recv(&mut interrupt) => break,
                _ = Signal::recv(&mut hangup) => {
                    // The fault is in the log and in the metrics; nobody waits for an answer.
                    let _ = self.reload().await;
                }
                _ = retry_log.tick(), if lacks_log => self.endpoints.retry_log().await,
                Some(update) = self.scraping.updates.recv() => self.scraping.update(update),
                Some(reply) = self.reloads.recv() => {
                    let result = self.reload().await;
                    let _ = reply.send(result);
                }
            }
        }
        self.stop().await;
        Ok(())
    }

    /// Loads the kernel probes beside the rest, so that the first page need not wait for the verifier.
    fn load_probes(&self, loader: Loader) -> Result<(), StartError> {
        let options = chosen_probes(&self.options.ebpf, &self.config).map_err(StartError::new)?;
        let (labels, table) = (self.config.host.labels.clone(), self.table.clone());
        let reader = self.reader.clone();
        loader.run(move || {
            let probes = EbpfReader::start(&options, &labels, &table);
            reader.set_probes(Box::new(probes));
        });
        Ok(())
    }

    /// Makes endpoints and jobs those of `config`. A job that is wrong is found before anything is changed.
    async fn apply(&mut self, config: &Config) -> Result<(), String> {
        chosen_probes(&self.options.ebpf, config)?;
        if config.host.ebpf != self.config.host.ebpf {
            log::warn!("host.ebpf has changed: probes are loaded at the next start");
        }
        let prepared = self.scraping.prepare(config)?;
        let api = config.target_api.as_ref();
        self.server.check_target_api(api)?;
        self.endpoints.apply(config).await?;
        self.scraping.apply(prepared)?;
        if api.is_some() && !self.options.storage_path.as_os_str().is_empty() {
            self.scraping.board().keep_in(&self.options.storage_path);
        }
        self.server.set_target_api(api, self.scraping.board());
        Ok(())
    }

    /// Reads the configuration again. A bad one changes nothing.
    async fn reload(&mut self) -> Result<(), String> {
        let applied = match read_config(self.options) {
            Ok(config) => self.apply(&config).await.map(|()| config),
            Err(error) => Err(error.message),
        };
        match applied {
            Ok(config) => {
                self.config = config;
                self.counters.reload_succeeded();
                self.schedule();
                log::info!("configuration reloaded");
                Ok(())
            }
            Err(error) => {
                self.counters.reload_failed.set(1);
                log::error!(err = error.as_str(); "configuration not reloaded; the last good one stays");
                Err(error)
            }
        }
    }

    /// Tells the reader how often to push: not at all without endpoints.
    fn schedule(&self) {
        let schedule = (!self.config.endpoints.is_empty()).then(|| PushSchedule {
            interval: self.config.host.scrape_interval,
            labels: self.config.host.labels.clone(),
            external_labels: self.config.external_labels.clone(),
        });
        self.clock.push(schedule);
    }

    /// In the direction of the data: no more scrapes and ticks, the ring runs empty into the log, one flush, the end.
    async fn stop(self) {
        log::info!("shutting down");
        let deadline = tokio::time::Instant::now() + SHUTDOWN_DEADLINE;
        let Daemon { clock, ring, aggregator, endpoints, scraping, .. } = self;
        let drained = tokio::task::spawn_blocking(move || {
            scraping.stop();
            clock.stop();
            ring.close();
            aggregator.join().is_ok()
        });
        match tokio::time::timeout_at(deadline, drained).await {
            Ok(Ok(true)) => {}
            _ => log::error!("the last tick was not written in time"),
        }
        endpoints.stop(Command::Flush, deadline).await;
    }
}

/// The code of the start is resident until somebody says that it is not needed any more: a third of all.
async fn forget_start() {
    tokio::time::sleep(START_IS_OVER).await;
    if let Err(error) = crate::sys::memory::forget_code() {
        log::debug!(err = error.to_string().as_str(); "the code of the start stays resident");
    }
}

fn read_config(options: &Options) -> Result<Config, StartError> {
    match &options.config_file {
        Some(path) => config::read_config(path).map_err(StartError::new),
        None => Ok(Config::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_knows_the_probes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("collector.yml");
        std::fs::write(&file, "host: {ebpf: {irq: true, tcp: false}}").unwrap();
        assert_eq!(check(&file).unwrap().host.ebpf.len(), 2);
        std::fs::write(&file, "host: {ebpf: {irqs: true}}").unwrap();
        let fault = check(&file).unwrap_err();
        assert!(fault.contains("collector.yml: host.ebpf: no kernel probe \"irqs\""), "{fault}");
    }
}
