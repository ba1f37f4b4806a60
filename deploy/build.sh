#!/bin/sh
# deploy/build.sh cpu|cuda [TAG]    builds an image with docker, or with the program that DOCKER names (podman, buildah bud).
set -eu
cd "$(dirname "$0")/.."
case "${1:-}" in
cpu) file=deploy/Dockerfile ;;
cuda) file=deploy/Dockerfile.cuda ;;
*)
	echo "usage: deploy/build.sh cpu|cuda [TAG]" >&2
	exit 2
	;;
esac
tag=${2:-darkroom:$1}
${DOCKER:-docker build} -f "$file" -t "$tag" .
echo "$tag"
