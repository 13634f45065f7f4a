//! From what was found in each scene to figures with intervals and baselines.
//!
//! It does not know how anything was found. Definitions: evidence.md, sections 4 and 6.5.

use std::collections::BTreeMap;

use vlm::explain::State;

use super::apart::{Apart, By};
use super::assertions::Kind;
use super::baselines::{Compared, Points, Suspected};
use super::detection::{Detection, Scored, calibration_error, false_alarms_at_recall};
use super::look::{Judged, Seen};
use super::overhead::Turn;
use super::pointing::Pointed;
use super::report::ROWS;
use crate::metric::Statistic::{self, Cut, Drop, Growth, Mean, Share};
use crate::metric::{Metric, Tally, resampled};

/// Points of recall that striking may cost.
const MOST_RECALL_LOST: f64 = 2.0;
/// Recall of hallucinations at which false alarms are counted.
const RECALL: f64 = 0.9;

/// All that was found.
pub(crate) struct Found {
    pub seen: Vec<Seen>,
    pub damaged: Vec<Seen>,
    pub apart: Vec<Apart>,
    pub compared: Vec<Compared>,
    pub turns: Vec<Turn>,
}

/// Figures by name: those of the table, and further ones.
#[derive(Default)]
pub(crate) struct Figures {
    pub table: BTreeMap<String, Metric>,
    pub further: BTreeMap<String, Metric>,
}

impl Figures {
    pub fn of(found: &Found) -> Figures {
        let mut figures = Figures::default();
        figures.localisation(found);
        figures.faithfulness(&found.apart);
        figures.detection(&found.seen);
        figures.simple_detection(&found.compared);
        figures.calibration(found);
        figures.strike(&found.seen);
        figures.overhead(&found.turns);
        figures
    }

    /// A row of the table where the name is one of its keys, else a further figure.
    fn put(&mut self, name: &str, mut metric: Metric) {
        match ROWS.iter().find(|row| row.name == name) {
            Some(row) => {
                let Metric { value, n, interval, baseline, baseline_name, .. } = metric;
                metric =
                    Metric::new((value, n), interval, (&baseline_name, baseline), Some(row.demand));
                self.table.insert(name.to_owned(), metric);
            }
            None => {
                self.further.insert(name.to_owned(), metric);
            }
        }
    }

    fn localisation(&mut self, found: &Found) {
        let seen = &found.seen;
        let share = |of: fn(&Pointed) -> Option<f64>| {
            tally(Share, seen, |s, t| {
                s.pointed.iter().filter_map(of).for_each(|value| t.add(0, value));
            })
        };
        let centre = share(|p| Some(f64::from(u8::from(p.centre)))).value().unwrap_or(0.0);
        let anywhere = share(|p| Some(p.anywhere)).value().unwrap_or(0.0);
        let pointing = share(|p| Some(f64::from(u8::from(p.hit))));
        let best = [("picture's centre", centre), ("random place", anywhere)];
        let blind = if centre > anywhere { best[0] } else { best[1] };
        self.put("pointing_tier0", pointing.metric(blind, None));
        self.put("pointing_random", plain(anywhere, pointing.n()));
        self.put("pointing_centre", plain(centre, pointing.n()));
        let simple = |of: fn(&Points) -> bool| {
            tally(Share, &found.compared, |s, t| {
                s.points.iter().for_each(|points| t.add(0, f64::from(u8::from(of(points)))));
            })
        };
        let random = ("random place", anywhere);
        self.put("pointing_mean_attention", simple(|p| p.attention).metric(random, None));
        self.put("pointing_lens", simple(|p| p.lens).metric(random, None));
        let nearly = share(|p| Some(f64::from(u8::from(p.nearly))));
        self.put("pointing_half_a_cell", nearly.metric(blind, None));
        let boxes = share(|p| Some(f64::from(u8::from(p.iou? >= 0.5))));
        self.put("box_acc50", boxes.metric(("none", 0.0), None));
        let iou = share(|p| Some(f64::from(p.iou?)));
        self.put("box_iou", iou.metric(("none", 0.0), None));
        let outline = share(|p| Some(f64::from(p.outline?)));
        self.put("outline_of_oracle", outline.metric(("none", 0.0), None));
        let alone = share(|p| p.alone.map(|alone| f64::from(u8::from(alone))));
        self.put("word_swap", alone.metric(("none", 0.0), None));
        let drop = tally(Drop, seen, |s, t| {
            for p in &s.pointed {
                t.add(usize::from(p.held_out), f64::from(u8::from(p.hit)));
            }
        });
        let n = seen.iter().flat_map(|s| &s.pointed).filter(|p| p.held_out).count();
        let metric = Metric { n, ..drop.metric(("none", 0.0), None) };
        self.put("held_out_drop_points", metric);
        let function = tally(Share, seen, |s, t| {
            let (n, low) = s.function_words;
            (0..n).for_each(|i| t.add(0, f64::from(u8::from(i < low))));
        });
        self.put("function_words_without_region", function.metric(("none", 0.0), None));
    }

    fn faithfulness(&mut self, apart: &[Apart]) {
        let flips = |of: fn(&By<Option<f64>>) -> Option<f64>| {
            tally(Share, apart, |a, t| {
                a.flips.iter().filter_map(of).for_each(|flip| t.add(0, flip));
            })
        };
        let random = flips(|by| by.blind);
        let blind = ("random cells", random.value().unwrap_or(0.0));
        self.put("flip_tier0", flips(|by| by.tier0).metric(blind, None));
        self.put("flip_tier2", flips(|by| by.tier2).metric(blind, None));
        self.put("flip_random", random.metric(("none", 0.0), None));
        let squares = |of: fn(&Apart) -> &Vec<f64>| {
            let tallied = tally(Share, apart, |a, t| of(a).iter().for_each(|&flip| t.add(0, flip)));
            tallied.metric(("none", 0.0), None)
        };
        self.put("flip_square", squares(|a| &a.flips_square));
        self.put("flip_beside", squares(|a| &a.flips_beside));
        let gaps = |of: fn(&By<Option<f64>>) -> Option<f64>| {
            tally(Mean, apart, |a, t| {
                a.gaps.iter().filter_map(of).for_each(|gap| t.add(0, gap));
            })
        };
        let random = gaps(|by| by.blind);
        let blind = ("random order", random.value().unwrap_or(0.0));
        self.put("insertion_deletion_tier0", gaps(|by| by.tier0).metric(blind, None));
        self.put("insertion_deletion_tier2", gaps(|by| by.tier2).metric(blind, None));
        self.put("insertion_deletion_random", random.metric(("none", 0.0), None));
        let agree = |of: fn(&By<Option<f64>>) -> Option<f64>| {
            tally(Mean, apart, |a, t| {
                a.agreements.iter().filter_map(of).for_each(|rho| t.add(0, rho));
            })
        };
        let blind = ("near the middle", agree(|by| by.blind).value().unwrap_or(0.0));
        self.put("spearman_tier0", agree(|by| by.tier0).metric(blind, None));
        self.put("spearman_tier2", agree(|by| by.tier2).metric(blind, None));
        let raw = |of: fn(&By<Option<f64>>) -> Option<f64>| {
            tally(Mean, apart, |a, t| {
                a.raw_agreements.iter().filter_map(of).for_each(|rho| t.add(0, rho));
            })
        };
        self.put("spearman_tier0_every_difference", raw(|by| by.tier0).metric(blind, None));
        self.put("spearman_tier2_every_difference", raw(|by| by.tier2).metric(blind, None));
        let confirmed = tally(Share, apart, |a, t| {
            a.confirmed.iter().for_each(|&yes| t.add(0, f64::from(u8::from(yes))));
        });
        self.put("tier2_confirmed", confirmed.metric(("none", 0.0), None));
        let independent = tally(Share, apart, |a, t| {
            let all = a.independent + a.agreements.len();
            (0..all).for_each(|i| t.add(0, f64::from(u8::from(i < a.independent))));
        });
        self.put("words_that_depend_on_no_thing", independent.metric(("none", 0.0), None));
    }

    fn detection(&mut self, seen: &[Seen]) {
        let of = |score: Score, kind: Kind, which: Which| {
            Detection::stratified(scored(seen, (score, kind), which))
        };
        let position = Detection::raw(scored(seen, (by_position, Kind::Object), Which::All));
        let position = ("position alone, raw", position.auroc().unwrap_or(0.5));
        self.put("stratified_auroc_tier0", auroc(&of(tier0, Kind::Object, Which::All), position));
        let surprise = of(by_surprise, Kind::Object, Which::All);
        let nll = ("surprise", surprise.auroc().unwrap_or(0.5));
        let kinds = [
            ("stratified_auroc_tier1", Kind::Object),
            ("stratified_auroc_tier1_attribute", Kind::Attribute),
            ("stratified_auroc_tier1_count", Kind::Count),
            ("stratified_auroc_tier1_relation", Kind::Relation),
            ("stratified_auroc_tier1_place", Kind::Place),
            ("stratified_auroc_tier1_text", Kind::Text),
        ];
        for (name, kind) in kinds {
            let surprise = of(by_surprise, kind, Which::All).auroc().unwrap_or(0.5);
            self.put(name, auroc(&of(tier1, kind, Which::All), ("surprise", surprise)));
            for (which, said) in [(Which::Own, "own"), (Which::Forced, "put_in")] {
                let name = format!("{name}_{said}");
                self.put(&name, auroc(&of(tier1, kind, which), ("surprise", surprise)));
            }
        }
        let ways: [(&str, Score); 4] = [
            ("surprise", by_surprise),
            ("position", by_position),
            ("probe", by_probe),
            ("without_picture", by_need),
        ];
        for (name, score) in ways {
            let stratified = of(score, Kind::Object, Which::All);
            self.put(&format!("stratified_auroc_{name}"), auroc(&stratified, ("chance", 0.5)));
            let raw = Detection::raw(scored(seen, (score, Kind::Object), Which::All));
            self.put(&format!("raw_auroc_{name}"), auroc(&raw, ("chance", 0.5)));
        }
        for (which, said) in [(Which::Own, "own"), (Which::Forced, "put_in")] {
            let name = format!("stratified_auroc_tier0_{said}");
            self.put(&name, auroc(&of(tier0, Kind::Object, which), nll));
        }
        let raw = Detection::raw(scored(seen, (tier0, Kind::Object), Which::All));
        self.put("raw_auroc_tier0", auroc(&raw, position));
        let pairs = |scored: Vec<Scored>| -> Vec<(f64, bool)> {
            scored.iter().map(|one| (one.score, one.positive)).collect()
        };
        let pairs = pairs(scored(seen, (tier1, Kind::Object), Which::All));
        let alarms = false_alarms_at_recall(&pairs, RECALL).unwrap_or(1.0);
        self.put("false_alarms_at_90_recall_tier1", plain(alarms, pairs.len()));
    }

    /// Own versions of what others detect with.
    fn simple_detection(&mut self, compared: &[Compared]) {
        let ways: [(&str, fn(&Suspected) -> f64); 2] =
            [("svar", |one| one.attention), ("lens_peak", |one| one.lens)];
        for (name, score) in ways {
            let scenes = compared.iter().enumerate();
            let all = scenes.flat_map(|(scene, c)| c.judged.iter().map(move |one| (scene, one)));
            let scored = all.map(|(scene, one)| Scored {
                score: score(one),
                positive: one.wrong,
                stratum: one.stratum,
                scene,
            });
            let scored: Vec<Scored> = scored.collect();
            let stratified = Detection::stratified(scored.clone());
            self.put(&format!("stratified_auroc_{name}"), auroc(&stratified, ("chance", 0.5)));
            let raw = Detection::raw(scored);
            self.put(&format!("raw_auroc_{name}"), auroc(&raw, ("chance", 0.5)));
        }
    }

    /// How far said probabilities are from how often claims are true: of what the model said by
    /// itself, which is what a user sees.
    fn calibration(&mut self, found: &Found) {
        let own = |judged: &&Judged| !judged.forced;
        let checked = |judged: &Judged| Some((judged.checked?.probability, !judged.wrong));
        let words = |judged: &Judged| Some((judged.seen?, !judged.wrong));
        let of = |seen: &[Seen], pair: &dyn Fn(&Judged) -> Option<(f64, bool)>, forced: bool| {
            let scenes: Vec<Vec<(f64, bool)>> = seen
                .iter()
                .map(|s| {
                    let judged = s.judged.iter().filter(|j| forced || own(j));
                    judged.filter_map(pair).collect()
                })
                .collect();
            error(&scenes)
        };
        self.put("ece_in_distribution", of(&found.seen, &checked, false));
        self.put("ece_degraded", of(&found.damaged, &checked, false));
        self.put("ece_with_put_in", of(&found.seen, &checked, true));
        self.put("ece_tier0", of(&found.seen, &words, false));
        for kind in Kind::ALL {
            self.marks(&found.seen, kind);
        }
    }

    /// How often what is marked in some way is wrong, of the model's own.
    fn marks(&mut self, seen: &[Seen], kind: Kind) {
        let usual = tally(Share, seen, |s, t| {
            let own = s.judged.iter().filter(|j| !j.forced && j.kind == kind);
            own.for_each(|j| t.add(0, f64::from(u8::from(j.wrong))));
        });
        let usual = ("the kind at all", usual.value().unwrap_or(0.0));
        let states = [State::Seen, State::Guessed, State::Unsupported];
        for (state, said) in states.into_iter().zip(["seen", "guessed", "unsupported"]) {
            let wrong = tally(Share, seen, |s, t| {
                let own = s.judged.iter().filter(|j| !j.forced && j.kind == kind);
                let marked = own.filter(|j| j.checked.is_some_and(|one| one.state == state));
                marked.for_each(|j| t.add(0, f64::from(u8::from(j.wrong))));
            });
            if wrong.n() > 0 {
                let name = format!("wrong_{}_{said}", kind.name());
                self.put(&name, wrong.metric(usual, None));
            }
        }
    }

    /// CHAIR_i before and after unsupported claims are struck.
    fn strike(&mut self, seen: &[Seen]) {
        let count = |t: &mut Tally, group: usize, [n, wrong, _]: [usize; 3]| {
            (0..n).for_each(|i| t.add(group, f64::from(u8::from(i < wrong))));
        };
        let lost = tally(Drop, seen, |s, t| {
            for one in &s.struck {
                let recalled = |[_, _, recalled]: [usize; 3]| recalled;
                for i in 0..one.there {
                    t.add(0, f64::from(u8::from(i < recalled(one.before))));
                    t.add(1, f64::from(u8::from(i < recalled(one.after))));
                }
            }
        });
        let before = tally(Share, seen, |s, t| {
            s.struck.iter().for_each(|one| count(t, 0, one.before));
        });
        let cut = tally(Cut, seen, |s, t| {
            for one in &s.struck {
                count(t, 0, one.before);
                count(t, 1, one.after);
            }
        });
        let metric = Metric { n: before.n(), ..cut.metric(("nothing struck", 0.0), None) };
        self.put("chair_i_cut", metric);
        // A cut that costs too much of what is there does not count.
        if lost.value().is_none_or(|lost| lost > MOST_RECALL_LOST)
            && let Some(metric) = self.table.get_mut("chair_i_cut")
        {
            metric.holds = Some(false);
        }
        self.put("chair_i", before.metric(("none", 0.0), None));
        self.put("strike_recall_lost_points", lost.metric(("nothing struck", 0.0), None));
    }

    fn overhead(&mut self, turns: &[Turn]) {
        let of = |with: fn(&Turn) -> f64| {
            tally(Growth, turns, |turn, t| {
                t.add(0, turn.plain);
                t.add(1, with(turn));
            })
        };
        self.put("overhead_tier0", of(|turn| turn.tier0).metric(("capture off", 0.0), None));
        let checked = of(|turn| turn.plain + turn.tier1);
        self.put("overhead_tier1", checked.metric(("no check", 0.0), None));
        let seconds = |of: fn(&Turn) -> f64| {
            tally(Mean, turns, |turn, t| t.add(0, of(turn))).metric(("none", 0.0), None)
        };
        self.put("seconds_answer", seconds(|turn| turn.plain));
        self.put("seconds_check", seconds(|turn| turn.tier1));
    }
}

/// Which answers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    All,
    /// What the model said by itself.
    Own,
    /// Answers into which something wrong was put.
    Forced,
}

/// How wrong something seems; None where it cannot say.
type Score = fn(&Judged) -> Option<f64>;

fn tier0(judged: &Judged) -> Option<f64> {
    Some(1.0 - judged.seen?)
}

fn tier1(judged: &Judged) -> Option<f64> {
    Some(1.0 - judged.checked?.probability)
}

fn by_surprise(judged: &Judged) -> Option<f64> {
    Some(judged.surprise)
}

fn by_position(judged: &Judged) -> Option<f64> {
    Some(judged.position as f64)
}

fn by_probe(judged: &Judged) -> Option<f64> {
    Some(1.0 - judged.checked?.probe)
}

fn by_need(judged: &Judged) -> Option<f64> {
    Some(-judged.checked?.needs_picture)
}

/// Assertions of one kind with how wrong they seem; the wrong ones are to be found.
fn scored(seen: &[Seen], (score, kind): (Score, Kind), which: Which) -> Vec<Scored> {
    let all = seen.iter().enumerate().flat_map(|(i, s)| s.judged.iter().map(move |j| (i, j)));
    let of = all.filter(|(_, j)| {
        let counts = match which {
            Which::All => true,
            Which::Own => !j.forced,
            Which::Forced => j.forced,
        };
        j.kind == kind && counts
    });
    let scored = of.filter_map(|(scene, j)| {
        Some(Scored { score: score(j)?, positive: j.wrong, stratum: j.stratum, scene })
    });
    scored.collect()
}

/// n: how many wrong ones there are to be found.
fn auroc(detection: &Detection, baseline: (&str, f64)) -> Metric {
    let interval = detection.interval().unwrap_or([0.0, 1.0]);
    Metric::new((detection.auroc(), detection.n_positive()), interval, baseline, None)
}

/// The calibration error over scenes.
fn error(scenes: &[Vec<(f64, bool)>]) -> Metric {
    let of = |which: &mut dyn Iterator<Item = usize>| -> Option<f64> {
        let said: Vec<(f64, bool)> = which.flat_map(|i| scenes[i].iter().copied()).collect();
        calibration_error(&said)
    };
    let interval = resampled(scenes.len(), |chosen| of(&mut chosen.iter().copied()));
    let n = scenes.iter().map(Vec::len).sum();
    let all: Vec<(f64, bool)> = scenes.iter().flatten().copied().collect();
    // What always saying how often claims are true would reach is 0; saying 1, this.
    let wrong = all.iter().filter(|(_, is_true)| !is_true).count() as f64 / (n as f64).max(1.0);
    let value = of(&mut (0..scenes.len()));
    Metric::new((value, n), interval.unwrap_or([0.0, 1.0]), ("always certain", wrong), None)
}

/// Counts each scene into a tally.
fn tally<T>(statistic: Statistic, scenes: &[T], count: impl Fn(&T, &mut Tally)) -> Tally {
    let mut tally = Tally::new(statistic);
    for scene in scenes {
        tally.next_scene();
        count(scene, &mut tally);
    }
    tally
}

/// A number that is known without resampling.
fn plain(value: f64, n: usize) -> Metric {
    Metric::new((Some(value), n), [value; 2], ("none", 0.0), None)
}
