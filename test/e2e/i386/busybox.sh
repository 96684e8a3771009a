# Arithmetic, strings, pipes, signals, processes, floating point (x87), packing.
echo $((7*6)) $((1<<31)) $((-7/2)) $((0x7fffffff+1)) $((123456789*987654321%1000007))
seq 1 300 | sort -rn | head -3 | tr '\n' ' '; echo
i=0; s=; while [ $i -lt 200 ]; do s=$s$i; i=$((i+1)); done; echo ${#s}; echo "$s" | md5sum
awk 'BEGIN { for (i = 1; i < 2000; i++) { a += i / 7.3; b = b * 0.997 + i * 1.5; } printf "%.6f %.6f %d\n", a, b, 2 * 1073741824.5 }'
seq 1 20000 | gzip | gunzip | sha256sum
seq 1 3000 | sed 's/1/one/g' | grep -c one
trap 'echo caught' USR1; kill -USR1 $$; (exit 7); echo $?
for i in 1 2 3 4 5 6 7 8; do (seq 1 $((i*100)) | wc -l >/dev/null) & done; wait; echo all
printf '%08x %o %s\n' 3735928559 511 text; date -u -d @1000000000 +%Y-%m-%d
