declare -A m; for i in {1..500}; do m[k$i]=$((i*i)); done; t=0; for k in "${!m[@]}"; do ((t+=m[$k])); done; echo $t
x=abcdefghij; echo ${x:3:4} ${x^^} ${x//[aeiou]/_}; printf '%s\n' {a..e}{1..3} | while read -r l; do echo -n "$l "; done; echo
[[ 2024-11-30 =~ ^([0-9]+)-([0-9]+) ]] && echo ${BASH_REMATCH[2]}; echo $((2**40)) $((-1>>1)) $((0xffffffff))
trap 'echo term' TERM; kill -TERM $$
f() { local n=$1; ((n<2)) && { echo $n; return; }; echo $(( $(f $((n-1))) + $(f $((n-2))) )); }; f 9
for i in 1 2 3; do echo line$i; done | while read -r l; do echo got $l; done; echo $HOSTTYPE
