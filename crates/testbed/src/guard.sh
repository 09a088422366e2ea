# Ends a server and removes its folder when the pipe on stdin ends, which it does with the test
# run, however that ends. $1 is the folder, $2 the signal by which the server ends at once.
trap '' HUP INT QUIT TERM
folder=$1 signal=$2 gone=$1.gone

# Whoever has not written his process number by now can't any more, and starts no server.
while read -r _; do :; done
mv "$folder" "$gone" 2>/dev/null || exit 0

# Process number, state and parent of every process there is.
processes() {
    if [ -r /proc/self/stat ]; then
        for stat in /proc/[0-9]*/stat; do
            read -r pid _ state parent _ 2>/dev/null <"$stat" && echo "$pid $state $parent"
        done
    else
        ps -A -o pid= -o state= -o ppid=
    fi
}

children() {
    processes | while read -r pid _ parent; do
        [ "$parent" = "$1" ] && echo "$pid"
    done
}

is_alive() {
    processes | while read -r pid state _; do
        [ "$pid" = "$1" ] && case $state in Z*) ;; *) echo yes ;; esac
    done | grep -q yes
}

end() {
    kill -s CONT "$1" $(children "$1")
    kill -s "$signal" "$1"
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
        is_alive "$1" || return
        sleep 0.1
    done
    kill -s STOP "$1"
    kill -s KILL "$1" $(children "$1") "-$1"
}

# A server in a container is Docker's child, and goes by its name.
if read -r docker <"$gone/docker"; then
    "$docker" rm -f "${folder##*/}"
fi
if read -r server <"$gone/pid"; then
    end "$server"
fi
# PostgreSQL keeps a few bytes of memory that outlive a kill: line 7 is its key and its number.
if [ -f "$gone/data/postmaster.pid" ]; then
    ipcrm -m "$(sed -n '7s/.* //p' "$gone/data/postmaster.pid")"
fi
rm -rf "$gone"
