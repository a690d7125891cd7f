// Groups without the generic alerts, and without groups that are empty then.
function(groups)
  local generic = ['KubeProxyDown', 'KubeProxyInstanceUnreachable'];
  local kept = [g { rules: [r for r in g.rules if !std.member(generic, std.get(r, 'alert', ''))] } for g in groups];
  [g for g in kept if g.rules != []]
