//! Scripts that insist on CUDA, on machines without it: what is changed in the ranks, and how.
//!
//! - M1: nothing is changed unless a name was asked for (`--compat`, a profile). What `auto` does is
//!   to say when a name would help.
//! - M2: what is changed is decided here ([`decide`]), stands in the plan, and is said once by rank 0.
//!   The ranks change no more than that, and only where `torch.cuda.is_available()` is false when
//!   one of the functions is called.
//! - M3: the way in is a folder in `PYTHONPATH` ([`place`]); no installed package is touched, and the
//!   folder is gone when the job is.
//! - M4: an error in the layer is one line; the script then sees `PyTorch` as it is.
//!
//! `.cuda()`, `.to("cuda")` and tensors made on `cuda` are not changed: a script that has them must
//! say which device it means.

mod decide;
mod place;

pub use decide::{
    Change, Compat, Layer, Mode, Offer, Python, Way, backend, decide, name_for, offered,
};
pub use place::{PlaceError, Placed, place};
