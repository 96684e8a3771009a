#!/bin/bash
# In the place of ssh for `xl migrate -s`: runs the command here, and counts the bytes of the stream that it is sent. The
# count in /s/bytes is that of the last look; nothing is held back, because both sides wait for each other's words.
shift
exec 3<&0
{
  dd bs=256k <&3 2>/dev/null &
  dd=$!
  exec >/dev/null
  while kill -0 $dd 2>/dev/null; do
    while read -r name value; do [ "$name" != rchar: ] || [ "$value" = 0 ] || echo "$value" >/s/bytes; done 2>/dev/null </proc/$dd/io
    sleep 0.2
  done
} | "$@"
