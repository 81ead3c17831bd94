//! The allocator of plugins.
//!
//! An instance lives for one call, so most of what it allocates needs never be
//! freed. This one hands out a static arena from bottom to top; only what does
//! not fit goes to the system's allocator. That keeps a call from growing its
//! memory and from touching pages that the host then has to make clean again,
//! which costs more than many a decision.
//!
//! The feature `allocator` (on by default) switches it on; an author who wants
//! another one switches default features off.
#![allow(unsafe_code, reason = "an allocator hands out raw memory")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::null_mut;

/// Bytes of the arena: a decision takes a few KiB. Pages that are not used cost
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

    /// Room in the arena, or null.
    ///
    /// # Safety
    ///
    /// Not while `used` is borrowed, which nothing does.
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

// SAFETY: every block is handed out once, from one of two places that are told
// apart by address, and given back to where it came from.
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
        // The last block grows and shrinks where it is, as vectors being filled do.
        if offset + layout.size() == *used && size <= SIZE - offset {
            *used = offset + size;
            return pointer;
        }
        if size <= layout.size() {
            return pointer;
        }
        // SAFETY: the new block is another one, and at least as large.
        unsafe {
            let grown = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !grown.is_null() {
                pointer.copy_to_nonoverlapping(grown, layout.size());
            }
            grown
        }
    }
}
