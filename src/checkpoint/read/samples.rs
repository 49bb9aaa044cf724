//! Small files that `PyTorch` and Python wrote (`tests/checkpoints/make.py`), for tests.

macro_rules! sample {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/checkpoints/samples/", $name))
    };
}

/// `torch.save` as it is.
pub(crate) const ZIP: &[u8] = sample!("zip.pt");
/// The old form, with protocol 2 and with protocol 4.
pub(crate) const LEGACY: [&[u8]; 2] = [sample!("legacy.pt"), sample!("legacy_4.pt")];
/// One value in every protocol.
pub(crate) const PROTOCOLS: [&[u8]; 6] = [
    sample!("protocol_0.pickle"),
    sample!("protocol_1.pickle"),
    sample!("protocol_2.pickle"),
    sample!("protocol_3.pickle"),
    sample!("protocol_4.pickle"),
    sample!("protocol_5.pickle"),
];
/// A folder of DCP: its index and two shards.
pub(crate) const DCP: [(&str, &[u8]); 3] = [
    (".metadata", sample!("dcp/.metadata")),
    ("__0_0.distcp", sample!("dcp/__0_0.distcp")),
    ("__0_1.distcp", sample!("dcp/__0_1.distcp")),
];
/// safetensors.
pub(crate) const SAFETENSORS: &[u8] = sample!("model.safetensors");
