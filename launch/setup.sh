#!/usr/bin/env bash
# Everything between a fresh Debian 12 or Ubuntu 24.04 and a built program:
#   launch/setup.sh [--tests] [--lint] [--no-build]
#   --tests     also what the tests need, and builds everything instead of the program alone
#   --lint      also clang-format and clang-tidy
#   --no-build  stops when the build is configured
# Installs only what is missing; does nothing, quickly, when nothing is. LibTorch is the one that
# HALFTONE_TORCH_ROOT names, else the one of python3 on the PATH, else a private copy in .venv.
# HALFTONE_JOBS limits the compiler's processes.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

torch_version=2.11.0
torch_oldest=2.6
# What libtorch_cpu.so of that wheel loads; everything else in its requirements is for GPUs.
torch_libraries=(nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
interop_packages=(
  safetensors transformers==5.17.0 tokenizers numpy torch==$torch_version bitsandbytes accelerate
  compressed-tensors)

with_tests=
with_lint=
with_build=1
for argument in "$@"; do
  case $argument in
    --tests) with_tests=1 ;;
    --lint) with_lint=1 ;;
    --no-build) with_build= ;;
    -h | --help)
      sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
      exit 0 ;;
    *) fail 2 "unknown argument '$argument'; launch/setup.sh --help lists them" ;;
  esac
done

has_gpu() {
  [ -e /dev/nvidia0 ] || { command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; }
}

install_packages() {
  local wanted=(
    g++ cmake ninja-build openmpi-bin libopenmpi-dev libhdf5-dev libboost-program-options-dev
    nlohmann-json3-dev libyaml-cpp-dev libspdlog-dev libpcre2-dev libicu-dev libsentencepiece-dev
    libssl-dev libcpp-httplib-dev pkg-config python3 python3-venv)
  if [ -n "$with_tests" ]; then wanted+=(libgtest-dev libgmock-dev); fi
  if [ -n "$with_lint" ]; then wanted+=(clang-format clang-tidy); fi
  if ! command -v dpkg-query >/dev/null; then
    say "this is not Debian or Ubuntu: the equivalents of these packages are up to you: ${wanted[*]}"
    return
  fi
  local installed package missing=()
  installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${wanted[@]}" 2>/dev/null || true)
  for package in "${wanted[@]}"; do
    if ! grep -qxF "$package installed" <<<"$installed"; then missing+=("$package"); fi
  done
  if [ ${#missing[@]} = 0 ]; then return; fi

  local as_root=(env DEBIAN_FRONTEND=noninteractive)
  if [ "$(id -u)" != 0 ]; then
    if ! sudo -n true 2>/dev/null && ! { [ -t 0 ] && command -v sudo >/dev/null && sudo -v; }; then
      fail 2 "packages are missing and neither root nor sudo is there; as root, run
  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
    fi
    as_root=(sudo "${as_root[@]}")
  fi
  say "installing Debian packages: ${missing[*]}"
  logged apt-update '^E:' "${as_root[@]}" apt-get update
  logged apt-install '^(Need to get|E:)' \
    "${as_root[@]}" apt-get install -y --no-install-recommends "${missing[@]}"
}

# torch_problem DIR: why the LibTorch there cannot be used; nothing when it can.
torch_problem() {
  local version
  if [ ! -e "$1/include/ATen/ATen.h" ] || [ ! -e "$1/lib/libtorch_cpu.so" ]; then
    echo "it has no include/ATen/ATen.h or no lib/libtorch_cpu.so"
    return
  fi
  version=$(sed -n "s/^__version__ = '\([0-9.]*\).*/\1/p" "$1/version.py" 2>/dev/null || true)
  if [ -z "$version" ]; then
    version=$(sed -n 's/^\([0-9.]*\).*/\1/p' "$1/build-version" "$1/../build-version" 2>/dev/null |
      head -n 1)
  fi
  if [ -z "$version" ]; then
    version=$(cat "$1"/include/torch/headeronly/version.h \
      "$1"/include/torch/csrc/api/include/torch/version.h 2>/dev/null |
      awk '$2 == "TORCH_VERSION_MAJOR" {a = $3} $2 == "TORCH_VERSION_MINOR" {b = $3}
           END {if (a != "") print a "." b}')
  fi
  if [ "$(printf '%s\n' "$torch_oldest" "${version:-0}" | sort -V | head -n 1)" != "$torch_oldest" ]
  then
    echo "its version is ${version:-unknown}, $torch_oldest is the oldest supported"
  elif grep -qs '_GLIBCXX_USE_CXX11_ABI=0' "$1/share/cmake/Torch/TorchConfig.cmake"; then
    echo "it was built with the old C++ ABI"
  fi
}

# The tests over several hosts skip without these.
install_lab() {
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "the tests over several hosts need root on Debian or Ubuntu: they will be skipped"
    return
  fi
  if ! (logged lab-install '^E:' tests/lab/lab install --no-uml); then
    say "the packages of tests/lab could not be installed: the tests over several hosts will be skipped"
  fi
}

# make_venv DIR
make_venv() {
  if [ -x "$1/bin/python" ] && "$1/bin/python" -c 'import pip' 2>/dev/null; then return; fi
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    fail 2 "$(command -v python3) cannot make virtual environments (its modules venv and ensurepip)"
  fi
  python3 -m venv --clear "$1"
}

# pip_install VENV PACKAGE...
pip_install() {
  local python=$1/bin/python
  shift
  logged pip '^ *(Downloading|Installing|Successfully|ERROR)' \
    "$python" -m pip install --no-input --progress-bar off "$@"
}

torch_of_venv() {
  local found=("$root"/.venv/lib/python3*/site-packages/torch)
  if [ -d "${found[0]}" ]; then echo "${found[0]}"; fi
}

install_torch() {
  if has_gpu; then
    say "installing torch $torch_version with its GPU libraries into .venv (about 3 GB to download)"
    make_venv .venv
    pip_install .venv "torch==$torch_version"
  else
    say "installing torch $torch_version for the CPU into .venv (about 0.6 GB to download)"
    make_venv .venv
    pip_install .venv --no-deps "torch==$torch_version" "${torch_libraries[@]}"
  fi
}

# Sets torch_root.
find_torch() {
  local problem
  if [ -n "${HALFTONE_TORCH_ROOT:-}" ]; then
    torch_root=$(realpath -m "$HALFTONE_TORCH_ROOT")
    problem=$(torch_problem "$torch_root")
    if [ -n "$problem" ]; then
      fail 2 "HALFTONE_TORCH_ROOT names '$torch_root', which cannot be used: $problem"
    fi
    return
  fi
  torch_root=$(python3 -c '
import importlib.util
spec = importlib.util.find_spec("torch")
print(spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else "")' \
    2>/dev/null || true)
  if [ -n "$torch_root" ]; then
    problem=$(torch_problem "$torch_root")
    if [ -z "$problem" ]; then return; fi
    say "the LibTorch of python3 is left alone: $problem ($torch_root)"
  fi
  torch_root=$(torch_of_venv)
  local complete=1
  if [ -z "$torch_root" ] || [ -n "$(torch_problem "$torch_root")" ]; then complete=; fi
  if [ -n "$complete" ]; then
    # The CPU's part alone was installed, and now there is a GPU; or the download was cut short.
    if has_gpu && [ ! -d "$torch_root/../nvidia/cudnn" ]; then complete=; fi
    if [ ! -d "$torch_root/../nvidia/cu13" ]; then complete=; fi
  fi
  if [ -z "$complete" ]; then
    install_torch
    torch_root=$(torch_of_venv)
  fi
}

# Apart from .venv: an importable torch without its requirements would break transformers.
install_interop() {
  local wanted=.venv-interop/installed
  if [ -x .venv-interop/bin/python ] && [ "$(cat $wanted 2>/dev/null)" = "${interop_packages[*]}" ]
  then
    return
  fi
  say "installing into .venv-interop, for the tests: ${interop_packages[*]}"
  make_venv .venv-interop
  pip_install .venv-interop "${interop_packages[@]}"
  echo "${interop_packages[*]}" >$wanted
}

# cached NAME: the value in the build folder's cache.
cached() { sed -n "s/^$1:[A-Z]*=//p" build/CMakeCache.txt 2>/dev/null || true; }

configure() {
  local options=("-DHALFTONE_TORCH_ROOT=$torch_root") interop=
  local current=1
  if [ ! -e build/build.ninja ] || [ "$(cached HALFTONE_TORCH_ROOT)" != "$torch_root" ]; then
    current=
  fi
  if [ -n "$with_tests" ]; then
    interop=$root/.venv-interop/bin/python
    options+=(-DHALFTONE_TESTS=ON "-DHALFTONE_INTEROP_PYTHON=$interop")
    if [ "$(cached HALFTONE_TESTS)" != ON ] || [ "$(cached HALFTONE_INTEROP_PYTHON)" != "$interop" ]
    then
      current=
    fi
  fi
  if [ -n "$current" ]; then return; fi
  say "configuring build/"
  logged configure '^(-- (LibTorch|CUDA|Tests):?|CMake Error)' \
    cmake --preset release "${options[@]}"
}

install_packages
if [ -n "$with_tests" ]; then install_lab; fi
find_torch
if [ -n "$with_tests" ]; then install_interop; fi
configure
if [ -n "$with_build" ]; then
  if [ -n "$with_tests" ]; then build; else build halftone; fi
fi
