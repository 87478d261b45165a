# Inside the container: a bank in PostgreSQL, a unix user for peer, a certificate, and PgBouncer.
set -euo pipefail
useradd --system --groups fdt-client clerk
version=$(ls /etc/postgresql)
echo 'max_prepared_transactions = 64' >>/etc/postgresql/$version/main/postgresql.conf
systemctl start postgresql@$version-main
runuser -u postgres -- createuser fdt
# Who comes to PostgreSQL itself, to be compared.
runuser -u postgres -- createuser clerk
runuser -u postgres -- createdb -O clerk shop
runuser -u postgres -- createdb -O fdt bank
runuser -u fdt -- psql -q -v ON_ERROR_STOP=1 -f /clients/bank.sql bank
cd /etc/fdt
openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=fdt -addext subjectAltName=IP:127.0.0.1,DNS:localhost -keyout tls.key -out tls.crt 2>/dev/null
chown root:fdt tls.key tls.crt
chmod 640 tls.key
cp tls.crt /usr/local/share/fdt.crt
cp /clients/fdt.yaml config.d/clients.yaml
fdtctl reload
install -d -o clerk /run/pgbouncer /run/clerk
install -D /clients/node/client.js /run/debian/client.js # where it finds Debian's node-pg
systemd-run --quiet --unit=bouncer --property=Type=notify --uid=clerk pgbouncer /clients/pgbouncer.ini
systemd-run --quiet --unit=bouncer-hot --property=Type=notify --uid=clerk pgbouncer /clients/pgbouncer-hot.ini
