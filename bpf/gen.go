package bpf

//go:generate go tool bpf2go -cc clang-14 -target bpfel -type vip_key -type vip -type slot -type real -type count -type reason -cflags "-O2 -g -Wall -Werror -nostdinc" lb lb.c
//go:generate go tool bpf2go -cc clang-14 -target bpfel -type count -type reason -cflags "-O2 -g -Wall -Werror -nostdinc" real real.c
