#!/bin/bash
# agent PORT NAME: serves one channel of the bed: a virtio-serial port, on which the host asks one thing at a time.
#   sync NONCE                          answered by the same line: from here on both sides agree where a line begins
#   run ID SECONDS BYTES SCRIPT         SCRIPT, in base64, is run by bash; the BYTES bytes that follow are its input
# The answer is "done ID STATUS BYTES" and that many bytes, all that it printed. STATUS is its exit status, 124 if it was
# ended after SECONDS together with all that it had started.
exec 3<>"$1"
own=/s/.agent/$2
while :; do
  read -r -u 3 op id seconds bytes script || { sleep 0.2; continue; }
  case $op in
  sync) printf 'sync %s\n' "$id" >&3 ;;
  run)
    base64 -d <<<"$script" >"$own.sh"
    rm -f "$own.late"
    { if [ "$bytes" -gt 0 ]; then head -c "$bytes" <&3; fi; } | {
      # In sessions of their own, so that each can be ended as a whole. Its output is a file: what it leaves running may
      # hold that open for as long as it likes.
      setsid bash "$own.sh" <&0 >"$own.out" 2>&1 3>&- &
      pid=$!
      setsid bash -c 'sleep "$1"; : >"$2"; kill -KILL -- "-$3"' late "$seconds" "$own.late" "$pid" 3>&- >/dev/null 2>&1 &
      watch=$!
      wait "$pid"
      status=$?
      kill -KILL -- "-$watch"
      # What it did not read must not be taken for the next line.
      cat >/dev/null
      [ ! -e "$own.late" ] || status=124
      echo "$status" >"$own.status"
    } 2>/dev/null
    read -r status <"$own.status"
    length=$(stat -c %s "$own.out")
    printf 'done %s %d %d\n' "$id" "$status" "$length" >&3
    head -c "$length" "$own.out" >&3
    # A new file for the next: what was left running goes on writing to this one.
    rm -f "$own.out"
    ;;
  esac
done
