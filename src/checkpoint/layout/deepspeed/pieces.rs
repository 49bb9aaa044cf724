//! What the names of a tag's files say, and which of them must be there.
//!
//! Source: `DeepSpeed`'s `runtime/engine.py` (`_get_ckpt_name`, `_get_rank_zero_ckpt_name`,
//! `_get_optimizer_ckpt_name`, `_get_expert_ckpt_name`), `runtime/pipe/module.py`
//! (`ckpt_layer_path`), and `checkpoint/constants.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// As many missing pieces as are counted: a claim of a million ranks is not believed to the end.
const MAX_MISSING: usize = 8;

/// One file of a tag, by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Piece {
    /// `mp_rank_00_model_states.pt`: the model of one model-parallel rank, and what all share.
    Model {
        /// The model-parallel rank.
        mp: u32,
    },
    /// `zero_pp_rank_0_mp_rank_00_model_states.pt`: the same, where parameters are partitioned.
    ZeroModel {
        /// The data-parallel rank.
        dp: u32,
        /// The model-parallel rank.
        mp: u32,
    },
    /// `[bf16_]zero_pp_rank_0_mp_rank_00_optim_states.pt`: one rank's part of the optimizer.
    Optim {
        /// The data-parallel rank.
        dp: u32,
        /// The model-parallel rank.
        mp: u32,
    },
    /// `expp_rank_0_mp_rank_00_optim_states.pt`: the optimizer of experts, without `ZeRO`.
    ExpertOptim {
        /// The expert-parallel rank.
        rank: u32,
        /// The model-parallel rank.
        mp: u32,
    },
    /// `layer_0_expert_3_mp_rank_00_model_states.pt`: one expert of one layer.
    Expert {
        /// The layer; older versions name none.
        layer: Option<u32>,
        /// The expert.
        expert: u32,
        /// The model-parallel rank.
        mp: u32,
    },
    /// `layer_03-model_00-model_states.pt`: one layer of a pipeline.
    Layer {
        /// The layer.
        layer: u32,
        /// The part of it: `model_00`, or nothing.
        part: String,
    },
}

impl Piece {
    /// What a name stands for.
    pub fn of(name: &str) -> Option<Self> {
        if let Some(stem) = name.strip_suffix("_model_states.pt") {
            return Self::model(stem);
        }
        if let Some(stem) = name.strip_suffix("-model_states.pt") {
            let (layer, part) = stem.strip_prefix("layer_")?.split_once('-').unwrap_or_else(|| {
                let layer = stem.strip_prefix("layer_").unwrap_or_default();
                (layer, "")
            });
            return Some(Self::Layer { layer: number(layer)?, part: part.to_owned() });
        }
        // older versions wrote no underscore
        let stem = name.strip_suffix("optim_states.pt")?;
        let stem = stem.strip_suffix('_').unwrap_or(stem);
        if let Some(rest) = stem.strip_prefix("expp_rank_") {
            let (rank, mp) = pair(rest)?;
            return Some(Self::ExpertOptim { rank, mp });
        }
        let stem = stem.strip_prefix("bf16_").or(stem.strip_prefix("fp16_")).unwrap_or(stem);
        let (dp, mp) = pair(stem.strip_prefix("zero_pp_rank_")?)?;
        Some(Self::Optim { dp, mp })
    }

    fn model(stem: &str) -> Option<Self> {
        if let Some(mp) = stem.strip_prefix("mp_rank_") {
            return Some(Self::Model { mp: number(mp)? });
        }
        if let Some(rest) = stem.strip_prefix("zero_pp_rank_") {
            let (dp, mp) = pair(rest)?;
            return Some(Self::ZeroModel { dp, mp });
        }
        let (layer, rest) = match stem.strip_prefix("layer_") {
            Some(rest) => {
                let (layer, rest) = rest.split_once("_expert_")?;
                (Some(number(layer)?), rest)
            }
            None => (None, stem.strip_prefix("expert_")?),
        };
        let (expert, mp) = pair(rest)?;
        Some(Self::Expert { layer, expert, mp })
    }

    /// Whether it holds what all ranks share: steps, sizes of the world.
    pub fn is_model(&self) -> bool {
        matches!(self, Self::Model { .. } | Self::ZeroModel { .. })
    }

    /// The data-parallel rank that wrote it, the first where none is named, and the model-parallel
    /// one.
    pub fn place(&self) -> (u32, u32) {
        (self.dp().unwrap_or(0), self.mp().unwrap_or(0))
    }

    /// The model-parallel rank.
    fn mp(&self) -> Option<u32> {
        match *self {
            Self::Model { mp }
            | Self::ZeroModel { mp, .. }
            | Self::Optim { mp, .. }
            | Self::ExpertOptim { mp, .. }
            | Self::Expert { mp, .. } => Some(mp),
            Self::Layer { .. } => None,
        }
    }

    fn dp(&self) -> Option<u32> {
        match *self {
            Self::ZeroModel { dp, .. } | Self::Optim { dp, .. } => Some(dp),
            _ => None,
        }
    }
}

/// The name as the newest versions write it; bf16's prefix is left out.
impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model { mp } => write!(f, "mp_rank_{mp:02}_model_states.pt"),
            Self::ZeroModel { dp, mp } => {
                write!(f, "zero_pp_rank_{dp}_mp_rank_{mp:02}_model_states.pt")
            }
            Self::Optim { dp, mp } => {
                write!(f, "zero_pp_rank_{dp}_mp_rank_{mp:02}_optim_states.pt")
            }
            Self::ExpertOptim { rank, mp } => {
                write!(f, "expp_rank_{rank}_mp_rank_{mp:02}_optim_states.pt")
            }
            Self::Expert { layer, expert, mp } => {
                if let Some(layer) = layer {
                    write!(f, "layer_{layer}_")?;
                }
                write!(f, "expert_{expert}_mp_rank_{mp:02}_model_states.pt")
            }
            Self::Layer { layer, part } if part.is_empty() => {
                write!(f, "layer_{layer:02}-model_states.pt")
            }
            Self::Layer { layer, part } => write!(f, "layer_{layer:02}-{part}-model_states.pt"),
        }
    }
}

/// `3_mp_rank_00`.
fn pair(text: &str) -> Option<(u32, u32)> {
    let (first, mp) = text.split_once("_mp_rank_")?;
    Some((number(first)?, number(mp)?))
}

fn number(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

/// What the files say of the job that wrote them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// Parts of the optimizer for each model-parallel rank.
    pub dp: Option<u32>,
    /// Model-parallel ranks.
    pub mp: Option<u32>,
    /// Whether the optimizer is in parts (`ZeRO`).
    pub is_partitioned: bool,
    /// Experts of each layer that has any.
    pub experts: Vec<u32>,
}

/// The pieces that `world` asks for, or that complete what others begin, and that are not there.
/// At most [`MAX_MISSING`].
pub fn missing(pieces: &BTreeSet<Piece>, world: &World) -> Vec<Piece> {
    let wanted = grid(pieces, world).chain(experts(pieces, world)).chain(layers(pieces));
    wanted.filter(|piece| !pieces.contains(piece)).take(MAX_MISSING).collect()
}

/// The rectangle of data-parallel and model-parallel ranks.
fn grid(pieces: &BTreeSet<Piece>, world: &World) -> impl Iterator<Item = Piece> {
    let seen = |of: fn(&Piece) -> Option<u32>| {
        pieces.iter().filter_map(of).max().map_or(0, |rank| rank.saturating_add(1))
    };
    let mp = world.mp.unwrap_or(0).max(seen(Piece::mp)).max(1);
    let dp = world.dp.unwrap_or(0).max(seen(Piece::dp)).max(1);
    let has_parts = pieces.iter().any(|piece| matches!(piece, Piece::Optim { .. }));
    let is_zero_3 = pieces.iter().any(|piece| matches!(piece, Piece::ZeroModel { .. }));
    (0..mp).flat_map(move |mp| {
        let models = if is_zero_3 { 0..dp } else { 0..1 };
        let models =
            models.map(
                move |dp| {
                    if is_zero_3 { Piece::ZeroModel { dp, mp } } else { Piece::Model { mp } }
                },
            );
        let parts = if has_parts || world.is_partitioned { 0..dp } else { 0..0 };
        models.chain(parts.map(move |dp| Piece::Optim { dp, mp }))
    })
}

/// All experts of every layer that any is seen of, or is told of.
fn experts(pieces: &BTreeSet<Piece>, world: &World) -> impl Iterator<Item = Piece> {
    let mut layers: BTreeMap<(u32, Option<u32>), u32> = BTreeMap::new();
    let mut ranks = BTreeMap::new();
    for piece in pieces {
        match *piece {
            Piece::Expert { layer, expert, mp } => {
                let count = layers.entry((mp, layer)).or_default();
                *count = (*count).max(expert.saturating_add(1));
            }
            Piece::ExpertOptim { rank, mp } => {
                let count: &mut u32 = ranks.entry(mp).or_default();
                *count = (*count).max(rank.saturating_add(1));
            }
            _ => {}
        }
    }
    // with partitioned parameters the experts are in the parts, and no file of theirs is there
    if !layers.is_empty() && layers.keys().all(|(_, layer)| layer.is_some()) {
        for (layer, told) in (0..).zip(&world.experts) {
            let count = layers.entry((0, Some(layer))).or_default();
            *count = (*count).max(*told);
        }
    }
    let experts = layers.into_iter().flat_map(|((mp, layer), count)| {
        (0..count).map(move |expert| Piece::Expert { layer, expert, mp })
    });
    let parts = ranks
        .into_iter()
        .flat_map(|(mp, count)| (0..count).map(move |rank| Piece::ExpertOptim { rank, mp }));
    experts.chain(parts)
}

/// Every part of every layer of a pipeline that any part is seen of. A layer that is not there at
/// all may be one without parameters.
fn layers(pieces: &BTreeSet<Piece>) -> impl Iterator<Item = Piece> {
    let seen = pieces.iter().filter_map(|piece| match piece {
        Piece::Layer { layer, part } => Some((*layer, part.clone())),
        _ => None,
    });
    let (layers, parts): (BTreeSet<u32>, BTreeSet<String>) = seen.unzip();
    layers.into_iter().flat_map(move |layer| {
        parts.clone().into_iter().map(move |part| Piece::Layer { layer, part })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(names: &[&str]) -> BTreeSet<Piece> {
        names.iter().map(|name| Piece::of(name).expect(name)).collect()
    }

    fn lacking(names: &[&str], world: &World) -> Vec<String> {
        missing(&pieces(names), world).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        let names = [
            "mp_rank_00_model_states.pt",
            "mp_rank_107_model_states.pt",
            "zero_pp_rank_12_mp_rank_03_model_states.pt",
            "zero_pp_rank_12_mp_rank_03_optim_states.pt",
            "expp_rank_1_mp_rank_00_optim_states.pt",
            "layer_2_expert_5_mp_rank_00_model_states.pt",
            "expert_5_mp_rank_00_model_states.pt",
            "layer_03-model_00-model_states.pt",
            "layer_03-model_states.pt",
        ];
        for name in names {
            assert_eq!(Piece::of(name).expect(name).to_string(), name);
        }
        let part = Some(Piece::Optim { dp: 1, mp: 0 });
        for name in [
            "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt",
            "fp16_zero_pp_rank_1_mp_rank_00_optim_states.pt",
            "zero_pp_rank_1_mp_rank_00optim_states.pt",
        ] {
            assert_eq!(Piece::of(name), part, "{name}");
        }
        for name in [
            "model_states.pt",
            "mp_rank__model_states.pt",
            "mp_rank_+1_model_states.pt",
            "zero_pp_rank_1_optim_states.pt",
            "layer_x-model_states.pt",
            "mp_rank_99999999999_model_states.pt",
            "optim_states.pt",
            "latest",
        ] {
            assert_eq!(Piece::of(name), None, "{name}");
        }
    }

    #[test]
    fn the_rectangle_is_as_large_as_told_or_seen() {
        let told = |dp, mp| World { dp: Some(dp), mp: Some(mp), ..World::default() };
        let model = "mp_rank_00_model_states.pt";
        let part = "zero_pp_rank_0_mp_rank_00_optim_states.pt";
        assert_eq!(lacking(&[model], &told(1, 1)), Vec::<String>::new(), "without ZeRO");
        assert_eq!(lacking(&[model], &told(4, 1)), Vec::<String>::new(), "without ZeRO, 4 ranks");
        assert_eq!(lacking(&[model], &told(1, 2)), ["mp_rank_01_model_states.pt"]);
        assert_eq!(
            lacking(&[model, part], &told(2, 1)),
            ["zero_pp_rank_1_mp_rank_00_optim_states.pt"]
        );
        let partitioned = World { is_partitioned: true, ..told(1, 1) };
        assert_eq!(lacking(&[model], &partitioned), [part], "no part at all");
        assert_eq!(lacking(&[part], &World::default()), [model]);
        // seen: the last of two rows
        let names = [model, part, "zero_pp_rank_1_mp_rank_01_optim_states.pt"];
        assert_eq!(
            lacking(&names, &World::default()),
            [
                "zero_pp_rank_1_mp_rank_00_optim_states.pt",
                "mp_rank_01_model_states.pt",
                "zero_pp_rank_0_mp_rank_01_optim_states.pt",
            ]
        );
    }

    #[test]
    fn partitioned_parameters_have_a_model_file_for_each_rank() {
        let names = [
            "zero_pp_rank_0_mp_rank_00_model_states.pt",
            "zero_pp_rank_0_mp_rank_00_optim_states.pt",
        ];
        let world = World { dp: Some(2), ..World::default() };
        assert_eq!(
            lacking(&names, &world),
            [
                "zero_pp_rank_1_mp_rank_00_model_states.pt",
                "zero_pp_rank_1_mp_rank_00_optim_states.pt",
            ]
        );
    }

    #[test]
    fn an_absurd_claim_ends_soon() {
        let world = World { dp: Some(u32::MAX), mp: Some(u32::MAX), ..World::default() };
        assert_eq!(missing(&pieces(&["mp_rank_00_model_states.pt"]), &world).len(), MAX_MISSING);
    }

    #[test]
    fn experts_and_layers_are_complete() {
        let model = "mp_rank_00_model_states.pt";
        let names = [
            model,
            "layer_0_expert_0_mp_rank_00_model_states.pt",
            "layer_0_expert_2_mp_rank_00_model_states.pt",
            "expp_rank_1_mp_rank_00_optim_states.pt",
        ];
        assert_eq!(
            lacking(&names, &World::default()),
            [
                "layer_0_expert_1_mp_rank_00_model_states.pt",
                "expp_rank_0_mp_rank_00_optim_states.pt",
            ]
        );
        let world = World { experts: vec![1, 1], ..World::default() };
        assert_eq!(
            lacking(&[model, "layer_0_expert_0_mp_rank_00_model_states.pt"], &world),
            ["layer_1_expert_0_mp_rank_00_model_states.pt"]
        );
        assert_eq!(lacking(&[model], &world), Vec::<String>::new(), "experts in the parts");
        let names = [
            model,
            "layer_00-model_00-model_states.pt",
            "layer_00-model_01-model_states.pt",
            "layer_02-model_00-model_states.pt",
        ];
        assert_eq!(lacking(&names, &World::default()), ["layer_02-model_01-model_states.pt"]);
    }
}
