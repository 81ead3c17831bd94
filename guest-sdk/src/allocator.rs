//! Arena allocator for instances that live for one call.
//!
//! Such an instance needs to free almost no memory. The allocator hands out a static arena
//! from bottom to top. Blocks that do not fit come from the system's allocator. A call
//! therefore rarely grows its memory, and touches few pages. The host must reset each
//! touched page, which can take longer than a decision.
//!
//! The feature `allocator` (on by default) enables it. To use another allocator, disable
//! the default features.
#![allow(unsafe_code, reason = "an allocator hands out raw memory")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::null_mut;

/// Size of the arena in bytes. A decision takes a few KiB; pages that are not touched cost
/// nothing.
const SIZE: usize = 64 * 1024;

struct Arena {
    memory: UnsafeCell<[u8; SIZE]>,
    used: UnsafeCell<usize>,
}

// SAFETY: a component has one thread.
unsafe impl Sync for Arena {}

#[global_allocator]
static ARENA: Arena = Arena { memory: UnsafeCell::new([0; SIZE]), used: UnsafeCell::new(0) };

impl Arena {
    fn start(&self) -> *mut u8 {
        self.memory.get().cast()
    }

    fn has(&self, pointer: *mut u8) -> bool {
        (pointer as usize).wrapping_sub(self.start() as usize) < SIZE
    }

    /// Returns a block of the arena, or null if it does not fit.
    ///
    /// # Safety
    ///
    /// `used` must not be borrowed.
    unsafe fn take(&self, layout: Layout) -> *mut u8 {
        // SAFETY: one thread, and no reference is kept.
        let used = unsafe { &mut *self.used.get() };
        let base = self.start() as usize;
        let align = layout.align() - 1;
        let Some(end) = (base + *used).checked_add(align) else { return null_mut() };
        let offset = (end & !align) - base;
        match offset.checked_add(layout.size()) {
            Some(end) if end <= SIZE => {
                *used = end;
                // SAFETY: offset is within the arena.
                unsafe { self.start().add(offset) }
            }
            _ => null_mut(),
        }
    }
}

// SAFETY: each block is handed out once. Its address shows whether it belongs to the arena
// or to the system's allocator, which gets its own blocks back.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for the caller of `alloc`.
        unsafe {
            let taken = self.take(layout);
            if taken.is_null() { System.alloc(layout) } else { taken }
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if !self.has(pointer) {
            // SAFETY: it came from the system's allocator.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.has(pointer) {
            // SAFETY: it came from the system's allocator.
            return unsafe { System.realloc(pointer, layout, size) };
        }
        let offset = pointer as usize - self.start() as usize;
        // SAFETY: one thread, and no reference is kept.
        let used = unsafe { &mut *self.used.get() };
        // The last block grows and shrinks in place; a vector that is being filled does this.
        if offset + layout.size() == *used && size <= SIZE - offset {
            *used = offset + size;
            return pointer;
        }
        if size <= layout.size() {
            return pointer;
        }
        // SAFETY: the new block does not overlap, and is at least as large.
        unsafe {
            let grown = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !grown.is_null() {
                pointer.copy_to_nonoverlapping(grown, layout.size());
            }
            grown
        }
    }
}
