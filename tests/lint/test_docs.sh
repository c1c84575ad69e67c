#!/usr/bin/env bash
# Files that README.md and the pages under docs/ name exist, and docs/options.md is what the program prints.
# shellcheck source=tests/lint/lint.sh
. "$(dirname "$0")/lint.sh"

# Named files: the targets of Markdown links, and words in backquotes that look like a path of the tree.
check() {
    local page name
    for page in $(files README.md docs -- '*.md'); do
        {
            grep -oP '\]\(\K[^)#:]+(?=[)#])' "$page" | sed "s|^|$(dirname "$page")/|"
            grep -oP '`\K(\./)?(docs|src|kernels|comm|launch|configs|tests|bench)/[\w./-]*[\w/](?=`)' "$page"
        } | sed 's|^\./||' | sort -u | while read -r name; do
            [ -e "$name" ] || echo "$page: names $name, which does not exist"
        done
    done
}

options_are_current() {
    cmp -s "$1" "$2"
}

lint
if [ -x "$build/swt-dist" ]; then
    "$build/swt-dist" --help-config=markdown >"$planted/options.md"
    if ! options_are_current "$planted/options.md" "$root/docs/options.md"; then
        echo "docs/options.md: not current; write it with: swt-dist --help-config=markdown >docs/options.md"
        lint_failed=1
    fi
    echo "one more line" >>"$planted/options.md"
    if options_are_current "$planted/options.md" "$root/docs/options.md"; then
        echo "a changed docs/options.md is not caught"
        lint_failed=1
    fi
else
    echo "$build/swt-dist: not built"
    lint_failed=1
fi
caught README.md 'See [the notes](docs/missing.md).'
caught README.md 'See [the notes](docs/missing.md#part).'
caught docs/a.md 'Look at `src/base/missing.c`.'
accepted docs/a.md 'See [itself](a.md), [a site](https://arxiv.org) and `docs/a.md`.'
verdict
