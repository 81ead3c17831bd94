-- Posts sixteen different calls in turn and checks every response: each must be
-- one of the sixteen, and each call must get as many responses as requests. Every
-- request has another timestamp, because an equal one would be a redelivery. With
-- `events`, posts transcriptions in these calls instead.
local calls = 16
local heads, tails, expected, nth = {}, {}, {}, 0
-- Global, because done() reads them from the thread.
wrong, answered = 0, {}

function init()
    wrk.headers["Content-Type"] = "application/json"
    wrk.headers["X-AVR-WEBHOOK-SECRET"] = secret
    -- `minute` and `second` differ between runs.
    local moment = string.format("2026-01-01T12:%02d:%02d.", minute, second)
    for call = 1, calls do
        local id = string.format("935652e3-7c59-4edc-b17f-9646a9c2a2%02x", call)
        local kind = events and 'transcription' or 'call_initiated'
        local payload = events and '{"role":"user","text":"I would like to change my appointment"}' or
            '{"from":"2000","to":"5001","uniqueid":"1770758888.32","channel":"PJSIP/2000-00000013"}'
        local request = wrk.format("POST", nil, nil, '{"uuid":"' .. id .. '","type":"' .. kind ..
            '","timestamp":"' .. moment .. '000000000Z","payload":' .. payload .. '}')
        local start = request:find("000000000Z", 1, true)
        heads[call], tails[call] = request:sub(1, start - 1), request:sub(start + 9)
        if not events then
            expected['{"sts_url":"ws://avr-sts-openai:6030/?uuid=' .. id .. '"}'] = call
        end
    end
    for call = 1, calls do answered[call] = 0 end
end

function request()
    nth = nth + 1
    local call = nth % calls + 1
    -- Nine digits without string.format, which costs more than the rest.
    return heads[call] .. (100000000 + nth) .. tails[call]
end

if pause > 0 then
    function delay() return pause end
end

function response(status, _, body)
    local call = expected[body]
    if events and status == 200 and body == '{"status":"ok"}' then
        return
    elseif status ~= 200 or not call then
        wrong = wrong + 1
    else
        answered[call] = answered[call] + 1
    end
end

local threads = {}
function setup(thread) table.insert(threads, thread) end

function done(summary, latency)
    local bad = 0
    for _, thread in ipairs(threads) do
        bad = bad + thread:get("wrong")
        -- Calls are posted in turn, so counts differ by at most the requests in flight.
        local least, most = math.huge, 0
        for _, count in pairs(thread:get("answered")) do
            least, most = math.min(least, count), math.max(most, count)
        end
        if most - least > 64 then bad = bad + most - least end
    end
    local e = summary.errors
    io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration, bad,
        e.connect + e.read + e.write + e.status + e.timeout,
        latency:percentile(50), latency:percentile(99)))
end
