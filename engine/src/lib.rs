//! Wasmtime's C API as one static library, and what that API lacks: a limiter that counts all
//! memories of a store together and traps, proposals off by name, modules from an open file, and the
//! names of Rust functions as people wrote them. See include/wasmwiz_engine.h.

pub use wasmtime_c_api::*;

use std::fs::File;
use std::os::fd::{FromRawFd, RawFd};
use wasmtime::{Config, Module, ResourceLimiter, Result, Store, WasmFeatures, format_err};

const REFUSED_MEMORY: u32 = 1;
const REFUSED_TABLE: u32 = 2;
const REFUSED_POOL: u32 = 3;

/// Mirrors `struct wasmwiz_limits`, where the fields are explained.
#[repr(C)]
pub struct wasmwiz_limits {
    memory_max: u64,
    memory_now: u64,
    memory_peak: u64,
    table_max: u64,
    table_now: u64,
    pool_now: *mut u64,
    pool_max: u64,
    last_growth: u64,
    last_peak: u64,
    last_table_growth: u64,
    refused: u32,
}

// A store and its limits stay on the thread that made them.
unsafe impl Send for wasmwiz_limits {}
unsafe impl Sync for wasmwiz_limits {}

impl wasmwiz_limits {
    fn refuse<T>(&mut self, why: u32, what: &str) -> Result<T> {
        self.refused = why;
        Err(format_err!("{what}"))
    }
}

impl ResourceLimiter for wasmwiz_limits {
    fn memory_growing(&mut self, current: usize, desired: usize, _max: Option<usize>) -> Result<bool> {
        let growth = desired.saturating_sub(current) as u64;
        let now = self.memory_now.saturating_add(growth);
        if now > self.memory_max {
            return self.refuse(REFUSED_MEMORY, "memory limit reached");
        }
        // SAFETY: the caller of wasmwiz_store_limits() keeps the counter alive with the store.
        let pool_now = unsafe { &mut *self.pool_now };
        if pool_now.saturating_add(growth) > self.pool_max {
            return self.refuse(REFUSED_POOL, "the server's memory for guests is used up");
        }
        *pool_now += growth;
        self.memory_now = now;
        self.last_peak = self.memory_peak;
        self.memory_peak = self.memory_peak.max(now);
        self.last_growth = growth;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        // Past the module's own maximum: memory.grow gives -1. The kernel's refusal ends the run.
        // SAFETY: as above.
        unsafe { *self.pool_now -= self.last_growth };
        self.memory_now -= self.last_growth;
        self.last_growth = 0;
        self.memory_peak = self.last_peak;
        if error.is::<std::io::Error>() {
            return self.refuse(REFUSED_POOL, "the system has no memory left");
        }
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _max: Option<usize>) -> Result<bool> {
        self.last_table_growth = desired.saturating_sub(current) as u64;
        let now = self.table_now.saturating_add(self.last_table_growth);
        if now > self.table_max {
            return self.refuse(REFUSED_TABLE, "table limit reached");
        }
        self.table_now = now;
        Ok(true)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> Result<()> {
        self.table_now -= self.last_table_growth;
        Ok(())
    }
}

/// # Safety
/// `store` is live; `limits` and its `pool_now` stay where they are until the store is deleted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wasmwiz_store_limits(store: *mut wasmtime_store_t, limits: *mut wasmwiz_limits) {
    // SAFETY: wasmtime_store_t is repr(C) with the Store as its only field.
    let store = unsafe { &mut *store.cast::<Store<WasmtimeStoreData>>() };
    let limits = limits as usize;
    store.limiter(move |_| unsafe { &mut *(limits as *mut wasmwiz_limits) });
}

/// # Safety
/// `fd` is open on what this engine's configuration serialised, is taken over, and nobody writes to it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wasmwiz_module_open(
    engine: &wasm_engine_t,
    fd: RawFd,
    out: &mut *mut wasmtime_module_t,
) -> Option<Box<wasmtime_error_t>> {
    // SAFETY: wasm_engine_t is repr(C) with the Engine as its only field; the rest is the caller's word.
    let engine = unsafe { &*(engine as *const wasm_engine_t).cast::<wasmtime::Engine>() };
    match unsafe { Module::deserialize_open_file(engine, File::from_raw_fd(fd)) } {
        Ok(module) => {
            // SAFETY: wasmtime_module_t has the Module as its only field, so both have one layout.
            *out = Box::into_raw(Box::new(module)).cast();
            None
        }
        Err(error) => Some(Box::new(error.into())),
    }
}
/// # Safety
/// `config` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wasmwiz_config_turn_off(config: *mut wasm_config_t) {
    // SAFETY: wasm_config_t is repr(C) with the Config as its only field.
    let config = unsafe { &mut *config.cast::<Config>() };
    for feature in [
        WasmFeatures::FUNCTION_REFERENCES,
        WasmFeatures::GC,
        WasmFeatures::EXCEPTIONS,
        WasmFeatures::LEGACY_EXCEPTIONS,
        WasmFeatures::THREADS,
        WasmFeatures::SHARED_EVERYTHING_THREADS,
        WasmFeatures::STACK_SWITCHING,
        WasmFeatures::MEMORY64,
        WasmFeatures::CUSTOM_PAGE_SIZES,
        WasmFeatures::WIDE_ARITHMETIC,
        WasmFeatures::COMPONENT_MODEL,
    ] {
        config.wasm_features(feature, false);
    }
}

/// # Safety
/// `name` has `len` bytes, `out` room for `size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wasmwiz_demangle(name: *const u8, len: usize, out: *mut u8, size: usize) -> usize {
    // SAFETY: the caller's word.
    let (name, out) = unsafe { (std::slice::from_raw_parts(name, len), std::slice::from_raw_parts_mut(out, size)) };
    let Some(demangled) = std::str::from_utf8(name).ok().and_then(|n| rustc_demangle::try_demangle(n).ok()) else {
        return 0;
    };
    let text = format!("{demangled:#}");
    let mut end = text.len().min(size);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out[..end].copy_from_slice(&text.as_bytes()[..end]);
    end
}

const _: () = assert!(size_of::<wasm_config_t>() == size_of::<Config>());
const _: () = assert!(size_of::<wasmtime_module_t>() == size_of::<Module>());
const _: () = assert!(size_of::<wasm_engine_t>() == size_of::<wasmtime::Engine>());
const _: () = assert!(size_of::<wasmtime_store_t>() == size_of::<Store<WasmtimeStoreData>>());
