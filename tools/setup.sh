#!/bin/bash
# SPDX-License-Identifier: MIT
# Installs what rsseg needs from Debian's packages and nothing else. Says what is missing and why before it does anything;
# touches nothing (and needs no network) when all is there.
#
#   tools/setup.sh [build] [test] [quickstart]     groups of packages; default: build
#   tools/setup.sh --list                          prints the table and exits
set -euo pipefail

# package | a file or command that shows it is there (empty: ask dpkg) | groups | why
table() {
  cat <<'TABLE'
g++|g++|build|C++20 compiler (12 or newer)
meson|meson|build|configures the build
ninja-build|ninja|build|runs the build
pkg-config|pkg-config|build|finds the libraries below
nlohmann-json3-dev||build|JSON: manifests, class lists, reports
libcli11-dev||build|the command line
libstb-dev||build|PNG and JPEG
libgdal-dev||build|GeoTIFF and other georeferenced rasters
doctest-dev||test|unit tests
libeigen3-dev|/usr/include/eigen3/Eigen/Core|test|tensors as Eigen matrices (optional for users)
clang|clang++|test|each header compiles under a second compiler
xplanet-images|/usr/share/xplanet/images/earth.jpg|quickstart|the Blue Marble picture of the Earth
python-cartopy-data|/usr/share/cartopy/data/shapefiles/gshhs/c/GSHHS_c_L1.shp|quickstart|shorelines and lakes: the labels
TABLE
}

if [[ "${1:-}" == --list ]]; then
  table | while IFS='|' read -r package _ group why; do printf '%-22s %-10s %s\n' "$package" "$group" "$why"; done
  exit 0
fi
groups=("$@")
[[ $# -gt 0 ]] || groups=(build)
for g in "${groups[@]}"; do
  case "$g" in
    build | test | quickstart) ;;
    *) echo "tools/setup.sh: unknown group \"$g\"; use build, test, quickstart" >&2; exit 2 ;;
  esac
done

installed() { # package, probe
  case "$2" in
    /*) [[ -e "$2" ]] ;;
    ?*) command -v "$2" >/dev/null 2>&1 ;;
    *) dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed ;;
  esac
}

missing=()
while IFS='|' read -r package probe group why; do
  [[ " ${groups[*]} " == *" $group "* ]] || continue
  # Without dpkg, libraries are left to meson, which names what it cannot find.
  if [[ -z "$probe" ]] && ! command -v dpkg-query >/dev/null 2>&1; then continue; fi
  installed "$package" "$probe" && continue
  [[ ${#missing[@]} -gt 0 ]] || echo "rsseg needs these Debian packages, which are not installed yet:"
  printf '  %-22s %s\n' "$package" "$why"
  missing+=("$package")
done < <(table)
[[ ${#missing[@]} -gt 0 ]] || exit 0

command="apt-get install -y --no-install-recommends ${missing[*]}"
if ! command -v apt-get >/dev/null 2>&1; then
  echo "rsseg: error: no apt-get on this system; install the equivalents of: ${missing[*]}" >&2
  exit 1
fi
if [[ "$(id -u)" == 0 ]]; then
  run=()
elif command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
  run=(sudo)
else
  echo "rsseg: error: packages are missing and this user may not install them; run as root:  apt-get update && $command" >&2
  exit 1
fi
echo "installing them:  ${run[*]:+sudo }$command"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
apt() { "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "$@" >"$log" 2>&1; }
install() { apt install -y --no-install-recommends "${missing[@]}"; }
# Package lists may be missing or old: they are fetched where the first try fails, so that a ready machine stays off the network.
if ! install; then
  if ! apt update; then
    tail -n 5 "$log" >&2
    echo "rsseg: error: apt-get update failed; check the network or /etc/apt/sources.list, then run again" >&2
    exit 1
  fi
  if ! install; then
    tail -n 15 "$log" >&2
    echo "rsseg: error: installing failed; by hand, as root:  apt-get update && $command" >&2
    exit 1
  fi
fi
echo "installed."
