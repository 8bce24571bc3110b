# rotnet in a container. Never built: no container engine was at hand. Linted with hadolint; that cargo finds every crate in
# vendor/ without a network was tried, compiling from there was not.
#
# The program is compiled without a network, from the crates' sources in vendor/:
#     mkdir -p .cargo && cargo vendor --locked > .cargo/config.toml
#     docker build --network none -t rotnet .
#     docker run --rm -v "$PWD:/work" rotnet run --data photos
# Only the two images below come from a registry. Neither stage installs anything.
FROM rust:1.95-bookworm AS build
WORKDIR /rotnet
COPY . .
RUN cargo build --release --locked --offline

FROM debian:bookworm-slim
COPY --from=build /rotnet/target/release/rotnet /usr/local/bin/rotnet
WORKDIR /work
ENTRYPOINT ["rotnet"]
CMD ["--help"]
