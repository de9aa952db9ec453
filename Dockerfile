# docker build -t nsbpf .
# docker run --rm -it --privileged --network host --pid host \
#   -v /run/nsbpf:/run/nsbpf:rshared -v /run/netns:/run/netns:rshared nsbpf up nat --wan --trace
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o /nsbpf ./cmd/nsbpf

# busybox brings ping, for `nsbpf exec`.
FROM busybox:1.37
COPY --from=build /nsbpf /bin/nsbpf
ENTRYPOINT ["/bin/nsbpf"]
CMD ["--help"]
