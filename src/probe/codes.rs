//! NVML's result codes in words.

use nvml_wrapper::error::NvmlError;

use crate::host::facts::nvidia::ResultCode;

/// The code for "the library could not be loaded".
pub const NOT_LOADED: i32 = -1;

/// NVML's code for a call that the GPU or the driver does not have.
const NOT_SUPPORTED: i32 = 3;
/// NVML's code for a call that the caller may not make.
pub const NO_PERMISSION: i32 = 4;
/// NVML's code for a symbol that is not there.
const FUNCTION_NOT_FOUND: i32 = 13;
/// NVML's code for a GPU that is gone.
pub const GPU_IS_LOST: i32 = 15;
/// NVML's code for a structure of a version that the library does not know.
const ARGUMENT_VERSION_MISMATCH: i32 = 25;

/// Whether the code only says that there is nothing to know.
pub fn is_unsupported(code: i32) -> bool {
    matches!(code, NOT_SUPPORTED | FUNCTION_NOT_FOUND | ARGUMENT_VERSION_MISMATCH)
}

/// What `nvmlErrorString` says for a code, so that a search finds it (libnvidia-ml 550.163.01).
pub fn text(code: i32) -> &'static str {
    match code {
        0 => "Success",
        1 => "Uninitialized",
        2 => "Invalid Argument",
        3 => "Not Supported",
        4 => "Insufficient Permissions",
        5 => "Already Initialized",
        6 => "Not Found",
        7 => "Insufficient Size",
        8 => "Insufficient External Power",
        9 => "Driver Not Loaded",
        10 => "Timeout",
        11 => "Interrupt Request Issue",
        12 => "NVML Shared Library Not Found",
        13 => "Function Not Found",
        14 => "Corrupted infoROM",
        15 => "GPU is lost",
        16 => "GPU requires reset",
        17 => "GPU access blocked by the operating system",
        18 => "Driver/library version mismatch",
        19 => "In use by another client",
        20 => "Insufficient Memory",
        21 => "No data",
        22 => "vGPU ECC not supported",
        23 => "Insufficient Resources",
        24 => "Invalid Frequency",
        25 => "Argument version mismatch",
        26 => "Requested functionality has been deprecated",
        27 => "System is not in ready state",
        28 => "No supported GPUs were found",
        29 => "Resource not in correct state to perform requested operation",
        _ => "Unknown Error",
    }
}

/// A code and its words.
pub fn result(code: i32) -> ResultCode {
    ResultCode { code, text: text(code).to_owned() }
}

/// The code and the words of the wrapper's error.
pub fn of(error: NvmlError) -> ResultCode {
    match error {
        NvmlError::LibloadingError(error) => {
            ResultCode { code: NOT_LOADED, text: error.to_string() }
        }
        NvmlError::FailedToLoadSymbol(text) => ResultCode { code: FUNCTION_NOT_FOUND, text },
        // What the library returned is no result code, but cannot be used.
        NvmlError::Utf8Error(_) | NvmlError::IncorrectBits(_) => {
            ResultCode { code: 999, text: error.to_string() }
        }
        error => result(i32::try_from(u32::from(error)).unwrap_or(999)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_through_the_wrapper_as_it_is() {
        for code in (1..=30).chain([999]) {
            let error = NvmlError::from(u32::try_from(code).unwrap());
            assert_eq!(of(error), result(code));
        }
        assert_eq!(result(18).text, "Driver/library version mismatch");
        assert_eq!(result(4242).text, "Unknown Error");
    }

    #[test]
    fn what_a_driver_does_not_have_is_no_error() {
        let unsupported: Vec<i32> = (0..=30).filter(|&code| is_unsupported(code)).collect();
        assert_eq!(unsupported, [3, 13, 25]);
    }
}
