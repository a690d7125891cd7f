local units = { ms: 1, s: 1000, m: 60 * 1000, h: 3600 * 1000, d: 24 * 3600 * 1000 };

{
  // A duration as Prometheus writes it, in milliseconds.
  milliseconds(text)::
    local digits = std.length([c for c in std.stringChars(text) if std.member('0123456789', c)]);
    local unit = std.substr(text, digits, std.length(text));
    assert std.objectHas(units, unit) : '%s is no duration of one unit' % text;
    std.parseInt(std.substr(text, 0, digits)) * units[unit],

  // text, or as many times less.
  scaled(text, by):: if by == 1 then text else '%dms' % std.ceil(self.milliseconds(text) / by),
}
