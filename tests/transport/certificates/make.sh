#!/bin/sh
# Makes the certificates that test_tls.py uses, valid from 2020 to 2120: sh make.sh, in this directory.
set -eu
scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
touch "$scratch/index"
cat > "$scratch/conf" <<END
[ca]
default_ca = all
[all]
database = $scratch/index
new_certs_dir = $scratch
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
[any]
commonName = supplied
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
[here]
subjectAltName = DNS:localhost, IP:127.0.0.1
[elsewhere]
subjectAltName = DNS:elsewhere.example
END
# NAME SECTION END [OPTION...]
issue() {
    openssl ecparam -genkey -name prime256v1 -noout -out "$1.key"
    openssl req -new -key "$1.key" -subj "/CN=$1" -out "$scratch/$1.csr"
    name=$1 section=$2 end=$3
    shift 3
    openssl ca -batch -notext -config "$scratch/conf" -extensions "$section" -in "$scratch/$name.csr" -out "$name.pem" \
        -startdate 20200101000000Z -enddate "$end" "$@"
}
issue ca authority 21200101000000Z -selfsign -keyfile ca.key
issue selfsigned here 21200101000000Z -selfsign -keyfile selfsigned.key
by_ca="-cert ca.pem -keyfile ca.key"
# shellcheck disable=SC2086
{
    issue good here 21200101000000Z $by_ca
    issue revoked here 21200101000000Z $by_ca
    issue elsewhere elsewhere 21200101000000Z $by_ca
    issue expired here 20200201000000Z $by_ca
    openssl ca -config "$scratch/conf" $by_ca -revoke revoked.pem
    openssl ca -config "$scratch/conf" $by_ca -gencrl -out crl.pem \
        -crl_lastupdate 20200101000000Z -crl_nextupdate 21200101000000Z
}
rm ca.key
