#!/usr/bin/env bash
# Cross-compiles the project for AArch64 and runs the tests of kernels, models and index under
# qemu, on processors with and without the byte products that the tiers are for. Debian's arm64
# libraries are unpacked into build-arm64/root; nothing of theirs is installed on this machine.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$PWD/build-arm64
root=$folder/root

LIBRARIES="libc6-dev libstdc++-12-dev libssl-dev libcurl4-openssl-dev libevent-dev libsimdjson-dev
  liblmdb-dev libzstd-dev libxxhash-dev libyaml-dev libutf8proc-dev libpcre2-dev libcmocka-dev libjansson-dev"
TESTS="test_kernels test_tiny_bert test_safetensors test_index test_recall test_tokenizer"

apt_arm64() { # apt with a state of its own, which knows no other architecture
  apt-get -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$folder/apt/state" \
    -o Dir::State::Lists="$folder/apt/lists" -o Dir::State::status="$folder/apt/status" \
    -o Dir::Cache="$folder/apt/cache" -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" -qq "$@"
}

if [ ! -f "$root/.complete" ]; then
  mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial" "$folder/apt/state" "$root"
  : >"$folder/apt/status"
  apt_arm64 update
  # shellcheck disable=SC2086
  apt_arm64 install --download-only -y --no-install-recommends $LIBRARIES
  for package in "$folder"/apt/cache/archives/*.deb; do
    dpkg -x "$package" "$root"
  done
  touch "$root/.complete"
fi

cat >"$folder/cross.ini" <<INI
[binaries]
c = 'aarch64-linux-gnu-gcc'
cpp = 'aarch64-linux-gnu-g++'
ar = 'aarch64-linux-gnu-ar'
strip = 'aarch64-linux-gnu-strip'
pkgconfig = 'pkg-config'

[properties]
sys_root = '$root'
pkg_config_libdir = '$root/usr/lib/aarch64-linux-gnu/pkgconfig'

[built-in options]
c_args = ['--sysroot=$root']
c_link_args = ['--sysroot=$root']
cpp_args = ['--sysroot=$root']
cpp_link_args = ['--sysroot=$root']

[host_machine]
system = 'linux'
cpu_family = 'aarch64'
cpu = 'armv8'
endian = 'little'
INI
[ -f "$folder/build/build.ninja" ] ||
  meson setup "$folder/build" --cross-file "$folder/cross.ini" -Dwerror=true >"$folder/meson.log"
# shellcheck disable=SC2086
ninja -C "$folder/build" --quiet $(printf 'tests/unit/%s ' $TESTS)

run() { # run PROCESSOR TEST
  qemu-aarch64-static -L "$root" -cpu "$1" "$folder/build/tests/unit/$2" >"$folder/$2.$1.log" 2>&1 ||
    { tail -n 30 "$folder/$2.$1.log"; echo "$2 failed on $1"; exit 1; }
  echo "$2 passed on $1"
}
# Cortex-A53 has neither dot products nor i8mm, Neoverse N1 the former, "max" both.
for processor in cortex-a53 neoverse-n1; do
  run "$processor" test_kernels
done
for name in $TESTS; do
  run max "$name"
done
