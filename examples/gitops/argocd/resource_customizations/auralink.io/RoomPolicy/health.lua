-- Health of a RoomPolicy. Argo CD runs this without Lua's string library.

local function health(status, message)
  return { status = status, message = message or "" }
end

local status = obj.status or {}
if status.conditions == nil or #status.conditions == 0 then
  return health("Progressing", "The operator has not looked at it yet")
end
if status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "The operator has not looked at the latest spec yet")
end

local found = {}
for _, condition in ipairs(status.conditions) do
  found[condition.type] = condition
end
local function is_true(name)
  return found[name] ~= nil and found[name].status == "True"
end

if is_true("Stalled") then
  return health("Degraded", found.Stalled.message)
end
if is_true("Ready") then
  if is_true("Conflicted") then
    return health("Healthy", found.Conflicted.message)
  end
  return health("Healthy", found.Ready.message)
end
return health("Progressing", found.Ready and found.Ready.message)
