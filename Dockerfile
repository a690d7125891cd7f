FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY collector collector
COPY prober prober
ARG VERSION=unknown
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X github.com/prometheus/common/version.Version=${VERSION}" -o /kproxy-exporter ./cmd/kproxy-exporter

FROM scratch
COPY --from=build /kproxy-exporter /kproxy-exporter
USER 65532:65532
EXPOSE 19249
ENTRYPOINT ["/kproxy-exporter"]
