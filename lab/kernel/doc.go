// Command kernel runs packages' tests on another kernel: it boots one in QEMU and prints what the tests said there.
//
// `make test-kernel` calls it with an unpacked kernel package of Debian's. It builds the packages' test binaries without
// cgo, packs them with the kernel modules they need and with itself into an initramfs, and boots that: no disk, no
// network, no distribution, nothing that stays. In the machine it is /init, process 1: it loads the modules, runs the
// binaries one after the other as root, and switches the machine off.
//
// The machine has two serial lines. The kernel writes to the first, which is searched for an oops; init writes events,
// a line of JSON each, to the second. A run fails when a test fails or is skipped, when a package runs no test, when the
// kernel complains, and when the machine is not done in time. The machine is a child of this process and dies with it.
package main
