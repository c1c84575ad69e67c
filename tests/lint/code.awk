# Prints FILE:LINE:TEXT for each line of C, with comments removed and the insides of string and character
# literals emptied, so that a search sees code alone. Names in #include lines stay.
FNR == 1 { comment = 0 }
{
    rest = $0; out = ""
    include = rest ~ /^[ \t]*#[ \t]*include/
    while (rest != "") {
        if (comment) {
            if (!(end = index(rest, "*/"))) { rest = ""; break }
            rest = substr(rest, end + 2); comment = 0
        } else if (substr(rest, 1, 2) == "//") {
            rest = ""
        } else if (substr(rest, 1, 2) == "/*") {
            rest = substr(rest, 3); comment = 1
        } else if (!include && match(rest, /^"([^"\\]|\\.)*"/)) {
            out = out "\"\""; rest = substr(rest, RLENGTH + 1)
        } else if (match(rest, /^'([^'\\]|\\.)+'/)) {
            out = out "' '"; rest = substr(rest, RLENGTH + 1)
        } else {
            out = out substr(rest, 1, 1); rest = substr(rest, 2)
        }
    }
    print FILENAME ":" FNR ":" out
}
