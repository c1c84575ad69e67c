#!/usr/bin/env bash
# No unfinished marks, no paths or addresses of one machine, and addresses of the web only to known homes.
# shellcheck source=tests/lint/lint.sh
. "$(dirname "$0")/lint.sh"

# Homes that documentation and scripts may name.
homes='github\.com|raw\.githubusercontent\.com|arxiv\.org|doi\.org|www\.open-mpi\.org|nn\.labml\.ai|www\.w3\.org'

# Bracketed letters keep these patterns from matching themselves.
check() {
    local all
    all=$(files . -- '*' | xargs -r grep -InP '' /dev/null | sed 's/^\([^:]*:[0-9]*\):/\1\t/') || true
    grep -P '\t.*\b(TOD[O]|FIXM[E]|XX[X]|HAC[K])\b' <<<"$all" | sed 's/\t.*/: unfinished mark/'
    # a template of mkdtemp may name the usual folder
    grep -P '\t.*(?<![\w.})*?$@+-])/(wor[k]|roo[t]|tm[p]|hom[e])(?![\w-])' <<<"$all" |
        grep -v 'XXXXX[X]' | sed 's/\t.*/: path of one machine/'
    grep -P '\t.*\b(?<!-)(?!127\.0\.0\.1|0\.0\.0\.0)\d{1,3}(\.\d{1,3}){3}\b' <<<"$all" | sed 's/\t.*/: address of one machine/'
    grep -P "\\t.*https?[:]//(?!($homes)\\b)" <<<"$all" | sed 's/\t.*/: web address of an unknown home/'
}

lint
caught src/base/a.c "/* TO""DO: later */"
caught docs/a.md "FIX""ME"
caught launch/a "cd /wor""k/main"
caught tests/base/a.c "fopen(\"/tm""p/a\")"
caught configs/a.yaml "path: /roo""t"
caught launch/a "ssh 10.0.""0.7"
caught docs/a.md "htt""ps://example.org/a"
accepted tests/base/a.c "mkdtemp(\"/tm""p/swt-XXXX""XX\") + \"\$root/wor""k\" and version 1.2.3"
accepted docs/a.md 'https://arxiv.org/abs/2101.03961'
verdict
