"""What a bridge talks to besides RTP peers: conference servers, the AI Core, stores and the customer's services."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from auralink_operator.models.schema import (
    SET,
    Address,
    Domain,
    HttpOrSocketUrl,
    HttpUrl,
    Label,
    Model,
    Name63,
    SecretKey,
    SecretName,
    SocketUrl,
    cel,
    rule,
)


class EndpointType(StrEnum):
    JITSI = "Jitsi"
    LIVEKIT = "LiveKit"


class JitsiJwt(Model):
    app_id: Annotated[Name63, Field(description="app_id that Prosody expects as issuer of tokens")]
    key_ref: Annotated[SecretKey, Field(description="Secret key with the app_secret that tokens are signed with")]


class Jitsi(Model):
    xmpp_url: Annotated[SocketUrl, Field(description="Prosody's WebSocket, e.g. wss://meet.example.com/xmpp-websocket")]
    domain: Annotated[Domain, Field(description="XMPP domain of the deployment, e.g. meet.example.com")]
    muc_domain: (
        Annotated[Domain, Field(description="XMPP domain of its conference rooms; absent: conference.<domain>")] | None
    ) = None
    jwt: Annotated[JitsiJwt, Field(description="how the bridge signs in; absent: without a token")] | None = None
    event_token_ref: (
        Annotated[
            SecretKey,
            Field(
                description="bearer token that Prosody's event_sync must send with its webhooks; absent: none is taken"
            ),
        ]
        | None
    ) = None
    census_url: (
        Annotated[
            HttpUrl, Field(description="Prosody's room census, asked for what webhooks have lost; absent: not asked")
        ]
        | None
    ) = None


class LiveKit(Model):
    url: Annotated[HttpOrSocketUrl, Field(description="the LiveKit server, e.g. wss://livekit.example.com")]
    api_key_ref: Annotated[SecretKey, Field(description="Secret key with the API key")]
    api_secret_ref: Annotated[SecretKey, Field(description="Secret key with the API secret")]
    webhooks: Annotated[
        bool, Field(description="takes webhooks that are signed with the API key; false: rooms are listed only")
    ] = True


class Endpoint(Model):
    model_config = ConfigDict(
        json_schema_extra=cel(
            rule(
                "self.type == 'Jitsi' ? has(self.jitsi) && !has(self.livekit) : has(self.livekit) && !has(self.jitsi)",
                "an endpoint has the settings of its type only: set jitsi for type Jitsi, livekit for type LiveKit",
            )
        )
    )
    name: Annotated[Label, Field(description="what legs name it by")]
    type: Annotated[EndpointType, Field(description="what kind of conference server it is")]
    jitsi: Annotated[Jitsi, Field(description="settings of type Jitsi")] | None = None
    livekit: Annotated[LiveKit, Field(description="settings of type LiveKit")] | None = None


class Failover(StrEnum):
    NONE = "None"
    STANDBY = "Standby"


class Breaker(Model):
    failures: Annotated[
        int, Field(ge=1, le=100, description="failed sessions in a row, without an answer between them, that open it")
    ] = 5
    open_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=3600,
            description="how long before one session tries again: it only decodes, and 30 answers in time close it",
        ),
    ] = 60


class AICore(Model):
    addresses: (
        Annotated[
            tuple[Address, ...],
            Field(
                min_length=1,
                max_length=4,
                json_schema_extra=SET,
                description="AI Cores to ask, host:port; absent: the one that the operator was installed with",
            ),
        ]
        | None
    ) = None
    failover: Annotated[
        Failover,
        Field(
            description="Standby: a second AI Core decodes along and takes over within a frame, at the cost of decoding"
            " twice; it needs two AI Cores behind the addresses. None: video goes on as it came, from the next keyframe"
        ),
    ] = Failover.NONE
    tls_secret_name: (
        Annotated[SecretName, Field(description="Secret with ca.crt and, for mutual TLS, tls.crt and tls.key")] | None
    ) = None
    timeout_ms: Annotated[
        int,
        Field(
            ge=5,
            le=1000,
            description="how long an answer may take, milliseconds (a keyframe's twice that); a later one ends the"
            " session: without a standby the picture holds until the sender's next keyframe, and goes on as it came",
        ),
    ] = 100
    breaker: Annotated[
        Breaker, Field(description="when pods stop opening sessions at an AI Core that fails, and when they try again")
    ] = Breaker()


class Topology(StrEnum):
    STANDALONE = "Standalone"
    SENTINEL = "Sentinel"
    CLUSTER = "Cluster"


class Redis(Model):
    model_config = ConfigDict(
        json_schema_extra=cel(
            rule(
                "(self.topology == 'Sentinel') == has(self.master)",
                "topology Sentinel needs the name of its master, and no other has one: set or remove master",
            ),
            rule(
                "self.topology != 'Cluster' || self.database == 0",
                "a Redis Cluster has database 0 only: remove database, or change topology",
                ".database",
            ),
        )
    )
    addresses: Annotated[
        tuple[Address, ...],
        Field(
            min_length=1,
            max_length=8,
            json_schema_extra=SET,
            description="servers, sentinels or cluster nodes to begin with, host:port",
        ),
    ]
    topology: Annotated[Topology, Field(description="what the addresses are")] = Topology.STANDALONE
    master: Annotated[Name63, Field(description="name of the master that sentinels watch")] | None = None
    database: Annotated[int, Field(ge=0, le=15, description="number of the database")] = 0
    user: Annotated[Name63, Field(description="ACL user; absent: default")] | None = None
    password_ref: Annotated[SecretKey, Field(description="Secret key with the password; absent: none")] | None = None
    tls: Annotated[bool, Field(description="connect with TLS and check the certificate")] = False
    ca_ref: (
        Annotated[SecretKey, Field(description="Secret key with the CA in PEM; absent: the system's CAs")] | None
    ) = None


class Postgres(Model):
    address: Annotated[Address, Field(description="the server, host:port")]
    database: Annotated[Name63, Field(description="database that records go to")] = "auralink"
    user: Annotated[Name63, Field(description="role to sign in with")] = "auralink"
    password_ref: Annotated[SecretKey, Field(description="Secret key with the password")]
    tls: Annotated[bool, Field(description="connect with TLS and check the certificate")] = False
    ca_ref: (
        Annotated[SecretKey, Field(description="Secret key with the CA in PEM; absent: the system's CAs")] | None
    ) = None


class Dashboard(Model):
    url: Annotated[HttpUrl, Field(description="where quality and savings are sent")]
    api_key_ref: Annotated[SecretKey, Field(description="Secret key with the API key; absent: none is sent")] | None = (
        None
    )


class Communication(Model):
    url: Annotated[HttpUrl, Field(description="where participants' AuraIDs are looked up")]
    token_ref: (
        Annotated[SecretKey, Field(description="Secret key with the bearer token; absent: none is sent")] | None
    ) = None


class Api(Model):
    token_ref: (
        Annotated[
            SecretKey,
            Field(description="Secret key with the bearer token of /rooms and /drain; absent: these are off"),
        ]
        | None
    ) = None
