#!/bin/sh
# The name that overrides give a run: "a.b=1 c=x" is a.b-1+c-x. Overrides with other signs than letters,
# digits, . _ and -, and long ones, end with @ and their hash: two runs never share a name.
LC_ALL=C
word='[A-Za-z0-9_.]+=[A-Za-z0-9_.-]*'
name=$(printf %s "$1" | tr ' =' '+-' | tr -c 'A-Za-z0-9_.+-' '-')
if [ ${#name} -gt 200 ] || ! printf '%s\n' "$1" | grep -Eqx "$word( $word)*"; then
	hash=$(printf %s "$1" | { sha256sum 2>/dev/null || shasum -a 256; } | cut -c1-8)
	name=$(printf %s "$name" | cut -c1-150)@$hash
fi
printf '%s\n' "$name"
