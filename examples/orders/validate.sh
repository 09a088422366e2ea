#!/bin/sh
# Says no to an order that could never be shipped. Trying again would not change that, so it is
# a failure, not an exception.
set -eu

order=$(cat)
text() { printf '%s\n' "$order" | sed -n 's/.*"'"$1"'" *: *"\([^"]*\)".*/\1/p'; }
number() { printf '%s\n' "$order" | sed -n 's/.*"'"$1"'" *: *\([0-9][0-9]*\).*/\1/p'; }

refuse() {
    printf '{"failure": {"message": "%s", "value": {"order": "%s"}}}\n' "$1" "$(text id)"
    exit 0
}

case $(text id) in
    A-*) ;;
    *) refuse 'the order has no number' ;;
esac
case $(text email) in
    ?*@?*) ;;
    *) refuse 'the order has no email address to confirm to' ;;
esac
case $(number quantity) in
    '' | 0) refuse 'the order asks for nothing' ;;
esac
case $(text item) in
    lamp | chair | desk | shelf) ;;
    *) refuse "the shop does not sell this item" ;;
esac
# Exit 0 with nothing on stdout: a success without a value.
