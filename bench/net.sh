#!/usr/bin/env bash
# net.sh - our HTTP layer beside nginx in one run, on loopback, client time included.
#
#     bench/net.sh [BUILD_FOLDER [SECONDS]]
#
# Needs nginx, wrk and curl. Three comparisons: a short answer from memory; the same
# forwarded from an upstream (bench_net itself); 100 streams of 500 events, one each
# millisecond, forwarded. CPU is user + system time of the server's process; each server
# has one loop or worker. The load generator shares the machine: compare, do not quote.
set -euo pipefail
build=${1:-build} seconds=${2:-4}
work=$(mktemp -d)
pids=()
finish() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; rm -rf "$work"; }
trap finish EXIT
base=${PORT_BASE:-18500}
upstream=$base ours=$((base + 1)) theirs=$((base + 2)) theirs_static=$((base + 3))

cat > "$work/nginx.conf" <<CONF
daemon off; master_process off; worker_processes 1; pid $work/nginx.pid; error_log $work/error.log;
events { worker_connections 30000; }
http {
  access_log off; client_body_temp_path $work/b; proxy_temp_path $work/p; fastcgi_temp_path $work/f;
  uwsgi_temp_path $work/u; scgi_temp_path $work/s; keepalive_requests 100000000; keepalive_timeout 600s;
  tcp_nodelay on; proxy_buffering off;
  upstream up { server 127.0.0.1:$upstream; keepalive 256; keepalive_requests 100000000; }
  server { listen 127.0.0.1:$theirs;
    location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; } }
  server { listen 127.0.0.1:$theirs_static; location / { return 200 "$(head -c 600 /dev/zero | tr '\0' a)"; } }
}
CONF
"$build/bench/bench_net" $upstream 600 1 > "$work/up" 2>&1 & up_pid=$!; pids+=($up_pid)
"$build/bench/bench_net" $ours 600 1 "http://127.0.0.1:$upstream" > "$work/ours" 2>&1 & ours_pid=$!; pids+=($ours_pid)
nginx -c "$work/nginx.conf" 2> "$work/nginx.out" & nginx_pid=$!; pids+=($nginx_pid)
sleep 1
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

load() { # name, pid, port
  local before after requests rate p50 p99 out
  before=$(ticks "$2")
  out=$(wrk -t1 -c32 -d"${seconds}s" --latency "http://127.0.0.1:$3/x")
  after=$(ticks "$2")
  requests=$(awk '/requests in/ { print $1 }' <<< "$out")
  rate=$(awk '/Requests\/sec/ { print $2 }' <<< "$out")
  p50=$(awk '$1 == "50%" { print $2 }' <<< "$out") p99=$(awk '$1 == "99%" { print $2 }' <<< "$out")
  printf '%-28s %10.0f requests/s %7.2f us CPU each  p50 %-9s p99 %s\n' "$1" "$rate" \
    "$(awk "BEGIN { print ($after - $before) * 1e4 / $requests }")" "$p50" "$p99"
}
single() { # name, port: one connection, latency only
  local out; out=$(wrk -t1 -c1 -d"${seconds}s" --latency "http://127.0.0.1:$2/x")
  printf '%-28s one at a time: p50 %-9s p99 %s\n' "$1" \
    "$(awk '$1 == "50%" { print $2 }' <<< "$out")" "$(awk '$1 == "99%" { print $2 }' <<< "$out")"
}
streams() { # name, pid, port
  local before after clients=() i
  before=$(ticks "$2")
  for i in $(seq 10); do
    curl -sN --no-progress-meter -Z --parallel-max 10 "http://127.0.0.1:$3/events?[1-10]" > "$work/ev.$i" 2> /dev/null & clients+=($!)
  done
  wait "${clients[@]}"
  after=$(ticks "$2")
  local events; events=$(cat "$work"/ev.* | grep -c '^data: ')
  printf '%-28s %10d events    %8.2f us CPU each\n' "$1" "$events" \
    "$(awk "BEGIN { print ($after - $before) * 1e4 / $events }")"
}
for round in 1 2; do
  load "short answer, nginx" $nginx_pid $theirs_static
  load "short answer, ours" $up_pid $upstream
  load "forwarded, nginx" $nginx_pid $theirs
  load "forwarded, ours" $ours_pid $ours
  single "direct" $upstream; single "forwarded, nginx" $theirs; single "forwarded, ours" $ours
  streams "events written, ours" $up_pid $upstream
  streams "events forwarded, nginx" $nginx_pid $theirs
  streams "events forwarded, ours" $ours_pid $ours
done
