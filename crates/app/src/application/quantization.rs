//! How the weights are held: choosing it, and what it takes and costs, as the user reads it.
//!
//! Sizes follow from the model's settings; losses are those that `eval` has measured and kept. It
//! does not know how either comes about.

use std::path::Path;

use eval::quantization::report::{Figure, Report};
use vlm::generate::Cancel;
use vlm::{Config, Vlm};

use crate::api::{
    ApiError, FormatCard, FormatFigure, Loss, Measurement, ModelCard, Progress, Quantization,
    QuantizationCard,
};
use crate::failure::{api_error, failure};
use crate::settings;

use super::{App, lock, no_model};

impl App {
    /// Loads the present model again with its weights held in another way, and remembers the
    /// choice. Chats go on. On failure everything stays as it was.
    pub fn set_quantization(&self, quantization: Quantization) -> Result<ModelCard, ApiError> {
        let folder = lock(&self.shared.model).folder.clone().ok_or_else(no_model)?;
        let card = self.replace(&folder, quantization.into())?;
        if let Some(path) = &self.shared.settings {
            settings::change(path, |settings| settings.quantization = quantization.into());
        }
        Ok(card)
    }

    /// What each way of holding the weights of the loaded model takes and costs.
    pub fn quantization(&self) -> Result<QuantizationCard, ApiError> {
        let folder = self.loaded().ok_or_else(no_model)?.folder;
        card(&folder, self.shared.can_quantize)
    }

    /// Measures what they cost, in minutes, beside the model that answers; blocks until it is done.
    /// `on_progress` returns false when nobody listens any more, which stops it.
    pub fn measure_quantization(
        &self,
        on_progress: impl Fn(Progress) -> bool + Sync,
    ) -> Result<QuantizationCard, ApiError> {
        let folder = self.loaded().ok_or_else(no_model)?.folder;
        let cancel = Cancel::new();
        if let Some(running) = lock(&self.shared.measuring).replace(cancel.clone()) {
            running.cancel();
        }
        measure(&folder, on_progress, &cancel)?;
        self.quantization()
    }

    /// Stops the measurement. Harmless where none is running.
    pub fn cancel_measuring(&self) {
        if let Some(running) = lock(&self.shared.measuring).take() {
            running.cancel();
        }
    }
}

impl From<vlm::Quantization> for Quantization {
    fn from(quantization: vlm::Quantization) -> Quantization {
        match quantization {
            vlm::Quantization::None => Quantization::None,
            vlm::Quantization::Q8_0 => Quantization::Q8_0,
            vlm::Quantization::Q4_0 => Quantization::Q4_0,
        }
    }
}

impl From<Quantization> for vlm::Quantization {
    fn from(quantization: Quantization) -> vlm::Quantization {
        match quantization {
            Quantization::None => vlm::Quantization::None,
            Quantization::Q8_0 => vlm::Quantization::Q8_0,
            Quantization::Q4_0 => vlm::Quantization::Q4_0,
        }
    }
}

/// The card of the model in `folder`.
fn card(folder: &Path, choosable: bool) -> Result<QuantizationCard, ApiError> {
    let config = Config::load(folder).map_err(|error| api_error(&error))?;
    let report = eval::quantization::kept(folder);
    let format = |quantization| {
        let bytes = Vlm::weight_bytes(&config, quantization).map_err(|error| api_error(&error))?;
        let figure = |name| figure(report.as_ref()?, name, quantization);
        Ok(FormatCard {
            quantization: quantization.into(),
            bytes: bytes as f64,
            perplexity: figure("perplexity"),
            existence: figure("existence_f1"),
            evidence: figure("evidence"),
            same_answer: figure("same_answer"),
        })
    };
    let formats = vlm::Quantization::ALL.into_iter().map(format);
    Ok(QuantizationCard {
        choosable,
        formats: formats.collect::<Result<_, ApiError>>()?,
        measured: report.as_ref().map(|report| Measurement {
            date: report.measured.date.clone(),
            scenes: report.measured.n_scenes as u32,
            build: report.measured.build.clone(),
        }),
        command: format!("sightline eval quantization --model \"{}\"", folder.display()),
    })
}

/// The unquantised model's figures are what the others are held against.
fn figure(report: &Report, name: &str, quantization: vlm::Quantization) -> Option<FormatFigure> {
    if quantization == vlm::Quantization::None {
        let Figure { baseline, n, .. } = report.figure(name, vlm::Quantization::Q8_0)?;
        return Some(FormatFigure { value: (*baseline)?, n: *n as u32, loss: None });
    }
    let Figure { value, n, lost, lost_interval, holds, .. } = report.figure(name, quantization)?;
    let loss = lost.zip(*lost_interval).zip(*holds);
    let loss = loss.map(|((lost, interval), holds)| Loss { lost, interval, holds });
    Some(FormatFigure { value: (*value)?, n: *n as u32, loss })
}

/// Measures the model in `folder` and keeps the report where [`card`] finds it.
fn measure(
    folder: &Path,
    on_progress: impl Fn(Progress) -> bool + Sync,
    cancel: &Cancel,
) -> Result<(), ApiError> {
    let first = eval::HELD_OUT.start;
    let seeds = first..first + eval::quantization::N_SCENES;
    let progress = |done: u64, all: u64| {
        if !on_progress(Progress { done: done as u32, all: all as u32 }) {
            cancel.cancel();
        }
    };
    let measured = eval::quantization(folder, seeds, true, &progress, cancel);
    measured.map(drop).map_err(|error| match error {
        eval::Error::Vlm(error) => api_error(&error),
        eval::Error::Cancelled => failure("cancelled", "the measurement was stopped", ""),
        error => failure("measuring", error.to_string(), "Try it again."),
    })
}
