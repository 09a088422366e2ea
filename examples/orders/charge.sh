#!/bin/sh
# Charges the order. An event may come more than once, so a real one would give the provider the
# order's number as idempotency key. This provider exists only here, and always does the same.
set -eu

order=$(cat)
text() { printf '%s\n' "$order" | sed -n 's/.*"'"$1"'" *: *"\([^"]*\)".*/\1/p'; }
number() { printf '%s\n' "$order" | sed -n 's/.*"'"$1"'" *: *\([0-9][0-9]*\).*/\1/p'; }

id=$(text id)
try=${RAILBUS_TRY:-1}

broken() {
    printf '%s\n' "$1" >&2
    exit 1
}

case $id in
    # Busy once, and twice: the step's own retry gets them through.
    A-1003) [ "$try" -ge 2 ] || broken 'the payment provider is busy' ;;
    A-1006) [ "$try" -ge 3 ] || broken 'the payment provider is busy' ;;
    # Never answers: after the step's tries, and those of every delivery, it is a dead letter.
    A-1014) broken 'the payment provider does not answer' ;;
    # The provider's answer is no, and it stays no.
    A-1018)
        printf '{"failure": {"message": "the card was declined", "value": {"order": "%s"}}}\n' "$id"
        exit 0
        ;;
esac

printf '{"order": "%s", "charged_cents": %d}\n' "$id" "$(number total_cents)"
