-- Posts sixteen different calls in turn, each time at another time (or it would
-- be a delivery that comes again), and checks that every answer is one of theirs,
-- and that each call got as many answers as it was posted. With `said`, what is
-- posted is what somebody said in these calls.
local calls = 16
local heads, tails, expected, nth = {}, {}, {}, 0
-- Global, as done() reads them from the thread.
wrong, answered = 0, {}

function init()
    wrk.headers["Content-Type"] = "application/json"
    wrk.headers["X-AVR-WEBHOOK-SECRET"] = secret
    -- `minute` and `second` are other ones for every run of load.
    local moment = string.format("2026-01-01T12:%02d:%02d.", minute, second)
    for call = 1, calls do
        local id = string.format("935652e3-7c59-4edc-b17f-9646a9c2a2%02x", call)
        local kind = said and 'transcription' or 'call_initiated'
        local payload = said and '{"role":"user","text":"I would like to change my appointment"}' or
            '{"from":"2000","to":"5001","uniqueid":"1770758888.32","channel":"PJSIP/2000-00000013"}'
        local request = wrk.format("POST", nil, nil, '{"uuid":"' .. id .. '","type":"' .. kind ..
            '","timestamp":"' .. moment .. '000000000Z","payload":' .. payload .. '}')
        local start = request:find("000000000Z", 1, true)
        heads[call], tails[call] = request:sub(1, start - 1), request:sub(start + 9)
        if not said then
            expected['{"sts_url":"ws://avr-sts-openai:6030/?uuid=' .. id .. '"}'] = call
        end
    end
    for call = 1, calls do answered[call] = 0 end
end

function request()
    nth = nth + 1
    local call = nth % calls + 1
    -- Nine digits without a format, which would cost more than the rest.
    return heads[call] .. (100000000 + nth) .. tails[call]
end

if pause > 0 then
    function delay() return pause end
end

function response(status, _, body)
    local call = expected[body]
    if said and status == 200 and body == '{"status":"ok"}' then
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
        -- In turn: no call may be ahead of another by more than what was in flight.
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
