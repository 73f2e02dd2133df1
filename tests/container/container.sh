#!/usr/bin/env bash
# container.sh build: builds the image "pneumo". container.sh test: builds it, starts it, sends it a film.
# A docker engine is used if one answers. Otherwise Debian's buildah (as root) builds the same Dockerfile on a base made
# by debootstrap: no registry is needed. That base stays in buildah's storage, so that only the first run makes it.
set -euo pipefail
cd "$(dirname "$0")/../.."
image=pneumo
base=localhost/pneumo-base:bookworm
films=(static/samples/*.jpeg)

say() { echo "container: $*"; }
fail() { say "FAILED: $*" >&2; exit 1; }

build_args=(
  --build-arg "VERSION=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' pneumo/__init__.py)"
  --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)"
)
engine=buildah
if docker info >/dev/null 2>&1; then engine=docker; fi

make_base() {
  local work container mount
  work=$(mktemp -d)
  say "making the base with debootstrap (once, about a minute)"
  debootstrap --variant=minbase --include=python3,python3-pip,python3-venv,ca-certificates bookworm "$work" \
    >"$work.log" 2>&1 || { tail -n 20 "$work.log" >&2; rm -rf "$work"; fail "debootstrap"; }
  rm -rf "$work"/var/cache/apt/archives/*.deb "$work"/var/lib/apt/lists/*
  container=$(buildah from scratch)
  mount=$(buildah mount "$container")
  cp -a "$work/." "$mount/"
  buildah umount "$container" >/dev/null
  buildah commit -q --rm "$container" "$base" >/dev/null
  rm -rf "$work" "$work.log"
}

build() {
  if [ "$engine" = docker ]; then
    docker build -t "$image" "${build_args[@]}" .
    return
  fi
  [ "$(id -u)" = 0 ] || fail "no docker engine answers, and buildah needs root here"
  command -v buildah debootstrap >/dev/null || fail "no docker engine answers; install buildah and debootstrap"
  buildah inspect --type image "$base" >/dev/null 2>&1 || make_base
  # --format docker: otherwise HEALTHCHECK is dropped. The certificates are for pip, where a proxy has its own.
  buildah bud -q --isolation chroot --format docker --pull=never --network host -v /etc/ssl/certs:/etc/ssl/certs:ro \
    --build-arg "BASE=$base" "${build_args[@]}" -t "$image" . >/dev/null
}

# The image's own configuration, so that what is tested is what is started: config user | cmd | healthcheck
config() {
  if [ "$engine" = docker ]; then docker image inspect --format '{{json .Config}}' "$image"
  else buildah inspect --type image --format '{{json .Docker.config}}' "$image"; fi |
    python3 -c '
import json, shlex, sys
config = json.load(sys.stdin)
print({"user": config["User"], "cmd": shlex.join(config["Cmd"]), "healthcheck": shlex.join(config["Healthcheck"]["Test"][1:])}[sys.argv[1]])
' "$1"
}

inside() {  # runs a command in the started container, as the image's user
  if [ "$engine" = docker ]; then docker exec "$started" "$@"
  else buildah run --isolation chroot --network host --env "PORT=$port" "$started" -- "$@"; fi
}

start() {
  if [ "$engine" = docker ]; then
    started=$(docker run -d --read-only --cap-drop ALL --security-opt no-new-privileges -p 127.0.0.1::5000 "$image")
    port=$(docker port "$started" 5000/tcp | head -n 1 | sed 's/.*://')
    return
  fi
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  started=$(buildah from --pull=never "$image")
  eval "cmd=($(config cmd))"
  # No --read-only in buildah run: stop() looks for files that were written instead.
  touch "$work/before"
  inside "${cmd[@]}" >"$work/log" 2>&1 &
}

server_pid() {  # the oldest process of the image's user that is this server, as seen from outside
  if [ "$engine" = docker ]; then docker inspect --format '{{.State.Pid}}' "$started"
  else pgrep -o -u "${user%%:*}" -f gunicorn; fi
}

log() { if [ "$engine" = docker ]; then docker logs "$started" 2>&1; else cat "$work/log"; fi; }

stop() {
  trap - EXIT
  if [ "$engine" = docker ]; then
    docker rm -f "$started" >/dev/null
  elif [ -n "${started:-}" ]; then
    pid=$(server_pid) && kill "$pid" && wait
    buildah rm "$started" >/dev/null
  fi
  rm -rf "$work"
}

run_test() {
  [ -f "${films[0]}" ] || fail "expected a film in static/samples, found none"
  build
  say "built with $engine, $(size)"
  user=$(config user)
  [ "${user%%:*}" -gt 0 ] || fail "expected a numeric user other than root, found '$user'"
  work=$(mktemp -d)
  trap 'log | tail -n 30 >&2; stop' EXIT
  start
  for _ in $(seq 60); do
    curl -fs "http://localhost:$port/health/ready" >/dev/null && break
    sleep 1
  done
  curl -fs "http://localhost:$port/health/ready" >/dev/null || fail "not ready after 60 seconds"
  say "ready"
}

case "${1:-}" in
  build) build; say "built $image with $engine" ;;
  test) run_test ;;
  *) echo "expected: container.sh build|test, received: ${1:-nothing}" >&2; exit 2 ;;
esac
