# pgcli reads pg_catalog to complete words, in the background; what it lists is to name the procedures, and no traceback may be seen.
set -eu
export HOME=$(mktemp -d) TERM=dumb
out=$(printf '%s\n' '\df' '\d' '\l' '\du' '\dT' '\dn' "CALL deposit($ACCOUNT, 1);" "SELECT * FROM balance($ACCOUNT);" '\q' | pgcli --no-password 2>&1)
echo "$out"
case $out in *Traceback* | *"does not serve"*) exit 1 ;; esac
case $out in *deposit*) ;; *) exit 1 ;; esac
