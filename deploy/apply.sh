#!/bin/sh
# Runs the commands that `ftf-broker log acl` has written to a file: apply.sh FILE.
# They name Kafka's programs as a distribution's packages do; in KAFKA_BIN these end in .sh. All can be run again.
set -eu
programs=$(mktemp -d)
trap 'rm -rf "$programs"' EXIT
for name in kafka-acls kafka-configs; do
  printf '#!/bin/sh\nexec "%s/%s.sh" "$@"\n' "$KAFKA_BIN" "$name" >"$programs/$name"
  chmod +x "$programs/$name"
done
# Each line stands for itself, and most of its time is a JVM that starts: two at a time.
grep . "$1" | tr '\n' '\0' | PATH="$programs:$PATH" xargs -0 -n 1 -P 2 sh -euc >/dev/null
echo "$(grep -c . "$1") commands are applied"
