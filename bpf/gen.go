package bpf

//go:generate go tool bpf2go -cc clang-14 -target bpfel -type vip_key4 -type vip_key6 -type vip -type address -type slot -type block -type real -type count -type flow_bucket -type flow_name -type flow -type fragment_key -type fragment -type trace -type reason -type reply -cflags "-O2 -g -Wall -Werror -nostdinc -mcpu=v3" lb lb.c
//go:generate go tool bpf2go -cc clang-14 -target bpfel -type count -type reason -type hop -cflags "-O2 -g -Wall -Werror -nostdinc" real real.c
//go:generate go tool bpf2go -cc clang-14 -target bpfel -cflags "-O2 -g -Wall -Werror -nostdinc" probe probe.c
//go:generate go tool bpf2go -cc clang-14 -target bpfel -type endpoint -type tally -cflags "-O2 -g -Wall -Werror -nostdinc" watch watch.c

// The peer of the benchmarks, with the flags that bpf2go gives.
//go:generate clang-14 -O2 -mcpu=v1 -g -Wall -Werror -nostdinc -fno-ident -fdebug-compilation-dir . -target bpfel -c testdata/table.c -o testdata/table.o
//go:generate llvm-strip-14 -g testdata/table.o
