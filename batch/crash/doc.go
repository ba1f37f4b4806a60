// Package crash holds a test that kills what renders a batch, and takes away its disk: at the end every image must be
// there, once, with the bytes that a run without faults gives. CRASH_FULL=1 makes it 300 images.
package crash
