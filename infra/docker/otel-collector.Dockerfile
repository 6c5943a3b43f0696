# The official image holds nothing but the collector; a health check needs something to ask with.
FROM otel/opentelemetry-collector-contrib:0.139.0 AS collector

FROM busybox:1.37
COPY --from=collector /otelcol-contrib /otelcol-contrib
COPY --from=collector /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY infra/otel/collector.yaml /etc/otel/collector.yaml
USER 10001
EXPOSE 4317 4318 13133
ENTRYPOINT ["/otelcol-contrib"]
CMD ["--config", "/etc/otel/collector.yaml"]
