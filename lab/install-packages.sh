#!/bin/sh
# Installs the Debian or Ubuntu packages named as arguments, where any is missing: with apt-get as
# root or through sudo. Without either it says which are missing and how to get them, and fails.
set -eu

missing=""
for package in "$@"; do
  status=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)
  case "$status" in
    ii*) ;;
    *) missing="$missing $package" ;;
  esac
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
  echo "Missing packages (Debian names):$missing" >&2
  echo "This system has no apt-get: install their equivalents, then run this again." >&2
  exit 1
fi

sudo=""
if [ "$(id -u)" -ne 0 ]; then
  # -n: a password prompt in the middle of a build would look like a hang
  if command -v sudo >/dev/null 2>&1 && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
    sudo="sudo"
  else
    echo "Missing packages:$missing" >&2
    echo "Install them as root, then run this again:" >&2
    echo "  apt-get update && apt-get install --no-install-recommends$missing" >&2
    exit 1
  fi
fi

echo "Installing packages:$missing"
install() {
  # the names are separate words on purpose
  # shellcheck disable=SC2086
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
}
# the package lists may be old or absent: one refresh, then again
install >/dev/null 2>&1 || { $sudo apt-get update -q >/dev/null && install >/dev/null; }
