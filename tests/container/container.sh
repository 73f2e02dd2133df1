#!/usr/bin/env bash
# container.sh build: builds the image "pneumo". container.sh test: builds it, starts it, sends it a film.
# A docker engine is used if one answers. Otherwise Debian's buildah (as root) builds the same Dockerfile on a base made
# by debootstrap, so that no registry is needed. That base stays in buildah's storage: only the first run makes it.
set -euo pipefail
cd "$(dirname "$0")/../.."
image=pneumo
base=localhost/pneumo-base:trixie
films=(static/samples/*.jpeg)
work=$(mktemp -d)
started= server=
if docker info >/dev/null 2>&1; then engine=docker; else engine=buildah; fi

say() { echo "container: $*"; }
fail() { say "FAILED: $*" >&2; exit 1; }

cleanup() {
  status=$?
  if [ $status -ne 0 ] && [ -n "$started" ]; then log | tail -n 30 >&2; fi
  # The server itself, not unshare: its children outlive unshare.
  if [ -n "$server" ]; then pkill -KILL -P "$server" || true; wait "$server" 2>/dev/null || true; fi
  if [ -n "$started" ]; then
    if [ "$engine" = docker ]; then docker rm -f "$started" >/dev/null
    else buildah umount "$started" >/dev/null; buildah rm "$started" >/dev/null; fi
  fi
  rm -rf "$work"
}
trap cleanup EXIT
log() { if [ "$engine" = docker ]; then docker logs "$started" 2>&1; else cat "$work/log"; fi; }

make_base() {
  say "making the base with debootstrap (once, about a minute)"
  debootstrap --variant=minbase --include=python3,python3-pip,python3-venv,ca-certificates trixie "$work/base" \
    >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; fail "debootstrap"; }
  rm -rf "$work"/base/var/cache/apt/* "$work"/base/var/lib/apt/lists/*
  local container mount
  container=$(buildah from scratch)
  mount=$(buildah mount "$container")
  cp -a "$work/base/." "$mount/"
  buildah umount "$container" >/dev/null
  buildah commit -q --rm "$container" "$base" >/dev/null
  rm -rf "$work/base"
}

build() {
  local args=(
    --build-arg "VERSION=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' pneumo/__init__.py)"
    --build-arg "REVISION=$(git rev-parse -q --verify HEAD 2>/dev/null || echo unknown)"
  )
  if [ "$engine" = docker ]; then
    docker build -t "$image" "${args[@]}" .
  else
    command -v buildah debootstrap unshare >/dev/null || fail "no docker engine answers; install buildah and debootstrap"
    [ "$(id -u)" = 0 ] || fail "no docker engine answers, and buildah is used as root here"
    buildah inspect --type image "$base" >/dev/null 2>&1 || make_base
    # --format docker: otherwise HEALTHCHECK is dropped. The certificates are the host's, for a proxy that has its own.
    buildah bud --layers --isolation chroot --format docker --pull=never --network host \
      -v /etc/ssl/certs:/etc/ssl/certs:ro --build-arg "BASE=$base" "${args[@]}" -t "$image" . >"$work/log" 2>&1 ||
      { tail -n 30 "$work/log" >&2; fail "buildah bud"; }
  fi
  say "built $image with $engine, $("$engine" images --format '{{.Size}}' "$image")"
}

# What the image says of itself, so that it is tested as it would be started: User, WorkingDir, Env, Cmd, Healthcheck.
# Lists come out quoted for the shell.
config() {
  if [ "$engine" = docker ]; then docker image inspect "$image"; else buildah inspect --type image "$image"; fi |
    python3 -c '
import json, shlex, sys
image = json.load(sys.stdin)
config = image[0]["Config"] if isinstance(image, list) else image["Docker"]["config"]
config["Healthcheck"] = config["Healthcheck"]["Test"][1:]
value = config[sys.argv[1]]
print(value if isinstance(value, str) else shlex.join(value))' "$1"
}

start() {
  eval "command=($(config Cmd))"
  if [ "$engine" = docker ]; then
    started=$(docker run -d --read-only --cap-drop ALL --security-opt no-new-privileges -p 127.0.0.1::5000 "$image")
    port=$(docker port "$started" 5000/tcp | head -n 1 | sed 's/.*://')
    return
  fi
  # buildah run has neither a read-only root nor a process 1 of its own; a pid and a mount namespace do.
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  eval "environment=($(config Env) PORT=$port)"
  started=$(buildah from --pull=never "$image")
  unshare --mount --pid --fork bash -euc '
    root=$1 user=$2; shift 2
    mount --bind "$root" "$root"
    mount -o remount,bind,ro "$root"
    mount -t proc proc "$root/proc"
    mount --bind /dev "$root/dev"
    mount -t tmpfs -o mode=1777,size=64m tmpfs "$root/dev/shm"
    exec chroot --userspec="$user" --groups= "$root" env -i "$@"
  ' bash "$(buildah mount "$started")" "$(config User)" --chdir="$(config WorkingDir)" "${environment[@]}" \
    "${command[@]}" >"$work/log" 2>&1 &
  server=$!
}

alive() {
  if [ "$engine" = docker ]; then [ "$(docker inspect --format '{{.State.Running}}' "$started")" = true ]
  else kill -0 "$server" 2>/dev/null; fi
}

inside() {  # runs a command beside the server, as its user
  if [ "$engine" = docker ]; then docker exec "$started" "$@"; return; fi
  local user; user=$(config User)
  nsenter -t "$(pgrep -P "$server")" -m -p -r -w -S "${user%:*}" -G "${user#*:}" env -i "${environment[@]}" "$@"
}

stop() {  # as an orchestrator does; the server must obey and end well
  local status=0
  if [ "$engine" = docker ]; then
    docker stop "$started" >/dev/null
    status=$(docker inspect --format '{{.State.ExitCode}}' "$started")
  else
    kill -TERM "$(pgrep -P "$server")"
    wait "$server" || status=$?
    server=
  fi
  [ "$status" = 0 ] || fail "expected exit status 0 after SIGTERM, received $status"
}

run_test() {
  [ -f "${films[0]}" ] || fail "expected a film in static/samples, found none"
  start
  local seconds=0
  until curl -fs -o /dev/null "http://localhost:$port/health/ready"; do
    alive && [ $((seconds += 1)) -le 60 ] || fail "expected a server that is ready within a minute"
    sleep 1
  done
  say "ready"

  curl -sS -F "file=@${films[0]}" "http://localhost:$port/predict" | python3 -c '
import json, sys
answer = json.load(sys.stdin)
assert answer.get("label") in ("NORMAL", "PNEUMONIA") and 0 <= answer.get("probability", -1) <= 1, answer
print("container: a film is read:", answer["label"], round(answer["probability"], 3))' || fail "no answer to a film"

  eval "inside $(config Healthcheck)" || fail "the image's health check"
  inside python -m pneumo.web.startup || fail "the check before a reload"
  say "health check and check before a reload ok"

  inside python -c '
import importlib.util, os, pathlib, sys
command = pathlib.Path("/proc/1/cmdline").read_bytes()
assert b"gunicorn" in command, f"expected gunicorn as process 1, found {command}"
assert os.getuid() == os.stat("/proc/1").st_uid > 0, "expected a user other than root"
for folder in ("/", "/tmp", "/venv", "/srv/pneumo"):
    assert not os.access(folder, os.W_OK), f"expected {folder} to be read-only"
found = [name for name in ("tensorflow", "keras", "imgaug", "cv2", "matplotlib") if importlib.util.find_spec(name)]
served = (".json", ".tflite", ".gate.npz")
found += [str(path) for path in pathlib.Path("/srv/pneumo/models").iterdir() if not path.name.endswith(served)]
assert not found, f"expected what serving needs, found {found}"
' || fail "inside the container"
  say "process 1 is gunicorn, not root, on a read-only root; no TensorFlow, no training weights"
  stop
  say "ok"
}

case "${1:-}" in
  build) build ;;
  test) build; run_test ;;
  *) echo "expected: container.sh build|test, received: ${1:-nothing}" >&2; exit 2 ;;
esac
