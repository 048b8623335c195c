# Every part of the mesh in one image; the argument picks one: istiod, ztunnel, waypoint or cni.
# Before: node image/build.ts. Then: docker build -t ambit:dev .
FROM debian:12-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends iproute2 ipset iptables libatomic1 nftables \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/ldconfig /var/log/apt /var/log/dpkg.log
COPY build/image/ /
# only the node agent and the node proxy need more; their manifests say so
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/opt/ambit/bin/ambit-part"]
