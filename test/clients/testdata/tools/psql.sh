# psql's lists, each in a session of its own so that none hides behind another's error.
set -eu
for list in '\d' '\df' '\df+' '\df balance' '\l' '\l+' '\du' '\dT' '\dn' '\dn+' '\dt' '\di' '\dv' '\ds' '\dx' '\dp' '\dg' '\dD' '\dC' '\db' '\dL' '\da' '\do' \
	'\dE' '\dO' '\dc' '\dF' '\dy' '\ddp' '\drds' '\dRp' '\dA' '\dconfig' '\sf balance' '\conninfo' '\encoding'; do
	psql -X -v ON_ERROR_STOP=1 -c "$list"
done
psql -Xc '\df' | grep -q deposit
